import fc from 'fast-check';
import type { Schema } from './api-document.js';
import type { FuzzedBody } from './requests.js';
import { HOSTILE_STRINGS, type SchemaValues, hostileValue } from './values.js';

const BOUNDARY = '----a-boundary-of-the-tests';

const FILE_NAMES = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.constantFrom('uploaded.md', 'people.csv', 'page.html', 'data.json', 'notes.txt'),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      '../../../etc/passwd',
      'C:\\boot.ini',
      '.',
      '..',
      '.htaccess',
      'a.pdf',
      'a.zip',
      'con',
      'folder/../file.md',
      `${'n'.repeat(300)}.md`,
      'ünï‮cöde.md',
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(...HOSTILE_STRINGS).map(text => text.toWellFormed().slice(0, 300)),
  },
);

const CONTENTS = fc.oneof(
  { weight: 4, arbitrary: fc.constant('# Uploaded\n\nA file of the tests, {{new}}.') },
  { weight: 2, arbitrary: fc.constant('email,role\n{{new}}@example.com,viewer\n') },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      '',
      ' ',
      '\0\0\0\0',
      '%PDF-1.4\n%garbage',
      'PK\u0003\u0004garbage',
      '<html><script>1</script><p>Text</p>',
      '{"a":',
      'email,role\n"unclosed,viewer\n',
      'email;role\r\n=cmd|x@example.com;owner\r\n',
    ),
  },
  { weight: 1, arbitrary: fc.string({ unit: 'grapheme', maxLength: 200 }) },
);

/** A form as the schema wants it, mostly; some come apart on the way. */
export function multipartBody(schema: Schema, values: SchemaValues): fc.Arbitrary<FuzzedBody> {
  const properties = Object.entries(schema.properties ?? {});
  const isFile = (field: Schema) => field.format === 'binary' || field.items?.format === 'binary';
  const field = ([name, type]: [string, Schema]): fc.Arbitrary<string> =>
    fc
      .oneof({ weight: 6, arbitrary: values.of(type, name, 1) }, { weight: 1, arbitrary: hostileValue })
      .map(value =>
        part(`name="${name}"`, null, typeof value === 'string' ? value : (JSON.stringify(value) ?? '')),
      );
  const files = properties.filter(([, type]) => isFile(type));
  const file = fc
    .tuple(
      fc.constantFrom(...(files.length > 0 ? files.map(([name]) => name) : ['file'])),
      FILE_NAMES,
      CONTENTS,
    )
    .map(([name, fileName, content]) =>
      part(`name="${name}"; filename="${quoted(fileName)}"`, 'application/octet-stream', content),
    );
  const odd = fc.constantFrom(
    part('name="__proto__"', null, 'x'),
    part('name=""', null, 'x'),
    part('name="unknown"', null, 'x'),
    part('filename="nameless.md"', 'text/plain', 'x'),
    part('name="file"', null, 'no file at all'),
    part('name="file"; filename=""', 'text/plain', ''),
    'content-type: text/plain\r\n\r\nno disposition',
    part('name="metadata"', null, '{"a":'),
    part('name="title"', null, 't'.repeat(5_000)),
  );
  const fields = properties.filter(([, type]) => !isFile(type));
  const parts = fc.tuple(
    fc
      .subarray(fields, { maxLength: Math.min(3, fields.length) })
      .chain(chosen => fc.tuple(...chosen.map(field))),
    fc.oneof(
      { weight: 10, arbitrary: fc.constant([]) },
      { weight: 2, arbitrary: fc.array(odd, { maxLength: 12 }) },
    ),
    fc.oneof(
      { weight: 8, arbitrary: fc.array(file, { minLength: 1, maxLength: 2 }) },
      { weight: 1, arbitrary: fc.constant([]) },
    ),
  );
  const ending = fc.oneof(
    { weight: 15, arbitrary: fc.constant('whole' as const) },
    { weight: 1, arbitrary: fc.constantFrom('cut', 'unended', 'unbounded', 'otherwise', 'empty') },
  );
  return fc
    .tuple(parts, ending)
    .map(([[some, more, uploads], how]) => assemble([...some, ...more, ...uploads], how));
}

function assemble(parts: string[], how: string): FuzzedBody {
  const content = parts.map(one => `--${BOUNDARY}\r\n${one}\r\n`).join('');
  const whole = `${content}--${BOUNDARY}--\r\n`;
  const type = `multipart/form-data; boundary=${BOUNDARY}`;
  const encoding = 'utf8' as const;
  switch (how) {
    case 'cut':
      return { type, text: whole.slice(0, Math.floor(whole.length / 2)), encoding };
    case 'unended':
      return { type, text: content, encoding };
    case 'unbounded':
      return { type: 'multipart/form-data', text: whole, encoding };
    case 'otherwise':
      return { type: 'multipart/form-data; boundary=other', text: whole, encoding };
    case 'empty':
      return { type, text: '', encoding };
    default:
      return { type, text: whole, encoding };
  }
}

const part = (disposition: string, type: string | null, content: string): string =>
  `content-disposition: form-data; ${disposition}${type ? `\r\ncontent-type: ${type}` : ''}\r\n\r\n${content.toWellFormed()}`;

const quoted = (name: string): string => name.replace(/["\r\n]/g, '%22');
