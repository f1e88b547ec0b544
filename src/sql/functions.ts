/** What PostgreSQL's own functions do when they are called: whether on a replica too, and what their session keeps. */
import { STEADY, VOLATILE } from './builtins.ts';
import { EFFECT } from './statement.ts';

/**
 * What a call does. `harmless`: nothing beyond its result, on a replica as well. `volatile`: it writes, keeps state,
 * or works on the primary only. `unknown`: not one of PostgreSQL's own functions.
 */
export type Nature = 'harmless' | 'volatile' | 'unknown';

/** The verdict on a function. */
export interface Verdict {
  readonly nature: Nature;
  /** Bits of {@link EFFECT}. */
  readonly effects: number;
}

const HARMLESS: Verdict = { nature: 'harmless', effects: 0 };
const UNKNOWN: Verdict = { nature: 'unknown', effects: EFFECT.unknown };

/** Volatile for their changing results only, or to stay out of indexes; all of them run on a replica. */
const HARMLESS_VOLATILE = `
array_sample array_shuffle clock_timestamp current_query gen_random_uuid lo_get pg_collation_actual_version
pg_database_size pg_get_wal_replay_pause_state pg_indexes_size pg_is_in_recovery pg_is_wal_replay_paused
pg_jit_available pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_partition_ancestors
pg_partition_tree pg_relation_size pg_sleep pg_sleep_for pg_sleep_until pg_table_size pg_tablespace_size
pg_total_relation_size random random_normal timeofday uuidv4 uuidv7
`;

/**
 * Stable or immutable, and yet not for a replica: those that take a transaction ID, those that refuse to work during
 * recovery, those that run queries of their own, and those that load a library.
 */
const NOT_HARMLESS = `
txid_current pg_current_xact_id
pg_replication_origin_oid pg_walfile_name pg_walfile_name_offset
database_to_xml database_to_xml_and_xmlschema database_to_xmlschema schema_to_xml schema_to_xml_and_xmlschema
schema_to_xmlschema table_to_xml table_to_xml_and_xmlschema table_to_xmlschema
`;

/** What the session keeps after a call, for the functions that leave more than their writes. */
const EFFECTS: readonly (readonly [effect: number, names: string])[] = [
  [EFFECT.sequence, 'nextval setval currval lastval'],
  [
    EFFECT.advisory_lock,
    `pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared
     pg_advisory_unlock pg_advisory_unlock_shared pg_advisory_unlock_all`,
  ],
  [
    // They run SQL that is given to them as text.
    EFFECT.unknown,
    `query_to_xml query_to_xml_and_xmlschema query_to_xmlschema cursor_to_xml cursor_to_xmlschema ts_rewrite ts_stat`,
  ],
  [
    // No statement but theirs takes back what they leave.
    EFFECT.unknown,
    `setseed pg_backup_start pg_backup_stop pg_replication_origin_session_setup pg_replication_origin_session_reset
     pg_create_logical_replication_slot pg_create_physical_replication_slot pg_copy_logical_replication_slot
     pg_copy_physical_replication_slot`,
  ],
  [EFFECT.set, 'set_config'],
];

const VERDICTS = verdicts();

/**
 * The verdict on the function of this name, qualified or not. An unqualified name is PostgreSQL's own function if there
 * is one, as pg_catalog comes first in every search_path that does not say otherwise.
 */
export function judgeFunction(name: readonly string[]): Verdict {
  const last = name[name.length - 1] ?? '';
  if (name.length === 1 || (name.length === 2 && name[0] === 'pg_catalog')) return VERDICTS.get(last) ?? UNKNOWN;
  // The helpers of the standard's views, which drivers call as well, are immutable or stable.
  if (name.length === 2 && name[0] === 'information_schema' && last.startsWith('_pg_')) return HARMLESS;
  return UNKNOWN;
}

/** The symbols of PostgreSQL's own operators; `<>` is also what `!=` is read as. */
const OPERATORS: ReadonlySet<string> = new Set(
  words(`
!! !~ !~* !~~ !~~* # ## #- #> #>> % & && &< &<| &> * *< *<= *<> *= *> *>= + - -> ->> -|- / < <-> << <<= <<| <= <> <@
<^ = > >= >> >>= >^ ? ?# ?& ?- ?-| ?| ?|| @ @-@ @> @? @@ @@@ ^ ^@ | |&> |/ |>> || ||/ ~ ~* ~<=~ ~<~ ~= ~>=~ ~>~ ~~ ~~*
`),
);

/** Whether an operator of this name, qualified or not, is one of PostgreSQL's own. */
export function isOperator(name: readonly string[]): boolean {
  const symbol = name[name.length - 1] ?? '';
  return OPERATORS.has(symbol) && (name.length === 1 || (name.length === 2 && name[0] === 'pg_catalog'));
}

/** Whether `method` is one of PostgreSQL's own functions for TABLESAMPLE. */
export function isSamplingMethod(method: readonly string[]): boolean {
  const last = method[method.length - 1];
  return (last === 'bernoulli' || last === 'system') && (method.length === 1 || method[0] === 'pg_catalog');
}

function verdicts(): ReadonlyMap<string, Verdict> {
  const result = new Map<string, Verdict>();
  for (const name of words(STEADY)) result.set(name, HARMLESS);
  for (const name of words(VOLATILE + NOT_HARMLESS)) result.set(name, { nature: 'volatile', effects: 0 });
  for (const name of words(HARMLESS_VOLATILE)) result.set(name, HARMLESS);
  for (const [effects, names] of EFFECTS) {
    for (const name of words(names)) result.set(name, { nature: 'volatile', effects });
  }
  return result;
}

function words(list: string): string[] {
  return list.trim().split(/\s+/);
}
