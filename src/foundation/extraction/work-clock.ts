export interface WorkLimits {
  /** Milliseconds of work. */
  total: number;
  /** Milliseconds of work without a sign of life. */
  silence: number;
}

/** Measures how long somebody has worked, pauses not counted, and tells once when that was too long. */
export class WorkClock {
  private worked = 0;
  private silent = 0;
  private since: number | null = null;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly limits: WorkLimits,
    /** Is told which limit was passed, in milliseconds. */
    private readonly expire: (limit: number) => void,
  ) {}

  /** Work begins, or goes on. */
  resume(): void {
    if (this.since !== null) return;
    this.since = performance.now();
    this.arm();
  }

  pause(): void {
    this.count();
    this.since = null;
    clearTimeout(this.timer);
  }

  /** A sign of life. */
  heard(): void {
    this.count();
    this.silent = 0;
    if (this.since !== null) this.arm();
  }

  private count(): void {
    if (this.since === null) return;
    const now = performance.now();
    this.worked += now - this.since;
    this.silent += now - this.since;
    this.since = now;
  }

  private arm(): void {
    clearTimeout(this.timer);
    const { total, silence } = this.limits;
    const [work, silent] = [total - this.worked, silence - this.silent];
    const [left, limit] = work <= silent ? [work, total] : [silent, silence];
    this.timer = setTimeout(() => this.expire(limit), Math.max(0, left));
  }
}
