/** The data source of the running role, for the two doors of `core/tenancy` and the check of the catalogue alone. */
export const APPLICATION_DATA_SOURCE = Symbol('APPLICATION_DATA_SOURCE');
