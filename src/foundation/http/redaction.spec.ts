import { describe, expect, it } from 'vitest';
import { HIDDEN, redactor, toldError } from './redaction.js';

const DRAWN = 'Zk3f0b1hJmQ-7uV2y_9sXcWeRtGbNhUj5MiKlOp4A1s';

describe('a line of the log', () => {
  const redact = redactor(['hunter2 "quoted"', 'päss/word+1', 'x.y*z(5)', 'abc']);

  it.each([
    ['an access token', 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl'],
    ['an unsigned token', 'eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.'],
    ['an API token', `rk_live_${DRAWN}`],
    ['a publishable token', `rk_pub_${DRAWN}`],
    ['a secret of a webhook', 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDI0iQXGj4NY8='],
    ['a key of a provider', 'sk-proj-abcdefgh12345678'],
    ['a hash of a password', '$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA'],
    ['a header', 'Bearer anything-at-all'],
    ['what is drawn here', DRAWN],
    ['what the settings hold', 'x.y*z(5)'],
  ])('does not tell %s', (_, secret) => {
    for (const line of [secret, `before ${secret} after`, JSON.stringify({ msg: `said ${secret}` })]) {
      const told = redact(line);
      expect(told).not.toContain(secret);
      expect(told).toContain(HIDDEN);
    }
  });

  it('does not tell secrets as JSON and addresses write them', () => {
    expect(redact(JSON.stringify({ msg: 'hunter2 "quoted"' }))).toBe(`{"msg":"${HIDDEN}"}`);
    expect(redact(`?p=${encodeURIComponent('päss/word+1')}`)).toBe(`?p=${HIDDEN}`);
    expect(redact('connect postgres://enclave_app:s3cret@db:5432/enclave')).toBe(
      `connect postgres://enclave_app:${HIDDEN}@db:5432/enclave`,
    );
    expect(redact('redis://:s3cret@redis:6379')).toBe(`redis://:${HIDDEN}@redis:6379`);
    expect(redact('/page?token=abcdef&x=1')).toBe(`/page?token=${HIDDEN}&x=1`);
    expect(redact('{"password":"a \\n b","user":"ada"}')).toBe(`{"password":"${HIDDEN}","user":"ada"}`);
    expect(redact(JSON.stringify({ msg: '{"api_key": "k-1","x":"y"}' }))).toBe(
      JSON.stringify({ msg: `{"api_key": "${HIDDEN}","x":"y"}` }),
    );
  });

  it('keeps everything else', () => {
    const line =
      '{"level":"info","request_id":"01a201a9-e5f0-7303-b988-3da6433b4a92","path":"/api/v1/tenants/acme","token_id":' +
      '"01a201a9-e5f0-7303-b988-3da6433b4a92","sha":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}';
    expect(redact(line)).toBe(line);
    // Too short to be told from a word.
    expect(redact('abc')).toBe('abc');
  });

  it('is gone through in no time, however long it is', () => {
    const started = performance.now();
    for (const piece of ['a', '"', '\\', 'eyJ', '://a:', 'Bearer ', '"token":"\\\\', '?key=']) {
      redact(piece.repeat(200_000 / piece.length));
    }
    expect(performance.now() - started).toBeLessThan(2_000);
  });
});

describe('an error', () => {
  it('tells what happened and where, and nothing of what it happened to', () => {
    const driverError = Object.assign(
      new Error('duplicate key value violates unique constraint "users_email"'),
      {
        code: '23505',
        detail: 'Key (email)=(ada@example.com) already exists.',
        where: 'PL/pgSQL function f("ada@example.com")',
        constraint: 'users_email',
      },
    );
    const error = Object.assign(new Error(driverError.message), {
      query: 'INSERT INTO users VALUES ($1)',
      parameters: ['ada@example.com'],
      driverError,
    });
    const told = toldError(error) as Record<string, unknown>;
    expect(told).toMatchObject({
      type: 'Error',
      message: driverError.message,
      query: 'INSERT INTO users VALUES ($1)',
      cause: { code: '23505', constraint: 'users_email' },
    });
    expect(JSON.stringify(told)).not.toContain('ada@example.com');
  });

  it('ends, also where it is its own cause', () => {
    const error = new Error('round');
    const other = new Error('about', { cause: error });
    error.cause = other;
    expect(JSON.stringify(toldError(error))).toContain('about');
    const several = new AggregateError([new TypeError('one'), 'two'], 'all');
    expect(toldError(several)).toMatchObject({ message: 'all', errors: [{ type: 'TypeError' }, 'two'] });
    expect(toldError('text')).toBe('text');
  });
});
