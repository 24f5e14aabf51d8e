import { CACHE_FAULTS } from './cache-faults.js';
import { CONTEXT_FAULTS } from './context-faults.js';
import { CREDENTIAL_FAULTS } from './credential-faults.js';
import { DATABASE_FAULTS } from './database-faults.js';
import type { Fault } from './fault.js';
import { GUARD_FAULTS } from './guard-faults.js';
import { INPUT_FAULTS } from './input-faults.js';
import { SURFACE_FAULTS } from './surface-faults.js';

/** In the order in which they are tried. */
export const FAULTS: readonly Fault[] = [
  ...DATABASE_FAULTS,
  ...CONTEXT_FAULTS,
  ...GUARD_FAULTS,
  ...CREDENTIAL_FAULTS,
  ...SURFACE_FAULTS,
  ...CACHE_FAULTS,
  ...INPUT_FAULTS,
];
