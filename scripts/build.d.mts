export const ROOT: string;
export const DIST: string;
export class BuildError extends Error {
  readonly exitCode: number;
}
export function build(): Promise<boolean>;
