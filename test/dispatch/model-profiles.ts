/** The settings that clients log in with, and what those make of the same texts, as PostgreSQL itself says. */
import { rowsOf } from '../client/backend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, PASSWORDS, type TestCluster } from '../cluster/index.ts';

/** A client's settings. */
export interface Profile {
  readonly parameters: Readonly<Record<string, string>>;
  /** What each of {@link PROBES} answers behind its tag. */
  readonly answers: readonly (readonly (string | null)[])[];
}

/** Lists of expressions, and what they are taken from, that mean something else in every profile. */
export const PROBES = [
  `current_setting('search_path'), current_setting('DateStyle'), current_setting('TimeZone'),
   current_setting('work_mem'), current_setting('IntervalStyle'), current_setting('extra_float_digits')`,
  `place.name, timestamptz '2024-06-01 12:00+00', interval '1 day 2 hours' FROM place`,
  `date '01/02/2024' - date '2024-01-01', 0.1::float4::float8,
   timestamptz '2024-06-01 12:00' - timestamptz '2024-06-01 00:00+00'`,
] as const;

const PARAMETERS: readonly Readonly<Record<string, string>>[] = [
  {},
  { application_name: 'one', search_path: 'red', DateStyle: 'German', TimeZone: 'Asia/Tokyo' },
  { application_name: 'two', search_path: 'blue, public', TimeZone: 'America/New_York', IntervalStyle: 'iso_8601' },
  { DateStyle: 'SQL, DMY', TimeZone: 'Asia/Tokyo' },
  { options: '-c work_mem=1234kB -c search_path=red', DateStyle: 'SQL, DMY' },
  { application_name: "it's \\ odd", extra_float_digits: '-3', client_encoding: 'LATIN1', work_mem: '2MB' },
];

export async function createPlaces(cluster: TestCluster): Promise<void> {
  for (const schema of ['red', 'blue'])
    await cluster.sql(`CREATE SCHEMA ${schema}; GRANT USAGE ON SCHEMA ${schema} TO PUBLIC`);
  for (const schema of ['public', 'red', 'blue']) {
    await cluster.sql(`CREATE TABLE ${schema}.place AS SELECT '${schema}'::text AS name`);
    await cluster.sql(`GRANT SELECT ON ${schema}.place TO PUBLIC`);
  }
}

/** All profiles, with what a session straight to the primary answers. */
export function profiles(cluster: TestCluster): Promise<Profile[]> {
  const { port } = cluster.primary;
  return Promise.all(
    PARAMETERS.map(async parameters => {
      const login = { user: 'alice', database: DATABASE, password: PASSWORDS.alice, parameters };
      await using client = await RawClient.connect({ port, ...login });
      const answers: (string | null)[][] = [];
      for (const probe of PROBES) answers.push(...rowsOf(await client.query(`SELECT ${probe}`)));
      return { parameters, answers };
    }),
  );
}
