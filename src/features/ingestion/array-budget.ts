/**
 * Bounds the bytes that a parser allocates as `Uint8Array`s, which a worker's `resourceLimits` do not count:
 * a PDF of 3 kB, deflated twice, unpacked to 5 GB. Replaces the thread's global constructor until it is
 * released, so it is for threads that do one thing at a time; what Node itself allocates is not counted.
 */
export class ArrayBudget {
  private readonly original = globalThis.Uint8Array;
  private used = 0;
  private refused = false;

  /** @param limit bytes, freed ones included, between one refill and the next */
  constructor(limit: number) {
    globalThis.Uint8Array = new Proxy(this.original, {
      construct: (target, args: unknown[], newTarget) => {
        const [length] = args;
        if (typeof length === 'number') {
          if (this.used + length > limit) {
            this.refused = true;
            throw new RangeError('Array buffer allocation failed: the budget of the file is used up.');
          }
          this.used += length;
        }
        return Reflect.construct(target, args, newTarget) as Uint8Array;
      },
    });
  }

  /** Whether an allocation was refused; parsers may have swallowed its RangeError. */
  get exhausted(): boolean {
    return this.refused;
  }

  refill(): void {
    this.used = 0;
  }

  release(): void {
    globalThis.Uint8Array = this.original;
  }
}
