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
    const counted: Uint8ArrayConstructor = new Proxy(this.original, {
      construct: (target, args: unknown[], newTarget) => {
        const [length] = args;
        if (typeof length === 'number') {
          if (this.used + length > limit) {
            this.refused = true;
            throw new RangeError('Array buffer allocation failed: the budget of the file is used up.');
          }
          this.used += length;
        }
        // With the proxy for newTarget every array would have a hidden class of its own, and no code stay optimised.
        return Reflect.construct(target, args, newTarget === counted ? target : newTarget) as Uint8Array;
      },
    });
    globalThis.Uint8Array = counted;
  }

  /** Whether an allocation was refused; parsers may have swallowed its RangeError. */
  get exhausted(): boolean {
    return this.refused;
  }

  /** Bytes since the last refill. */
  get usedBytes(): number {
    return this.used;
  }

  refill(): void {
    this.used = 0;
  }

  /** What was refused does not matter. */
  forgive(): void {
    this.refused = false;
  }

  release(): void {
    globalThis.Uint8Array = this.original;
  }
}
