/** A statement goes the same way however it is sent: as a query, with parameters, or prepared and executed later. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import fc from 'fast-check';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import type { TestProxy } from '../proxy/index.ts';
import { type Answer, answerOf, Shards } from '../sharding/shards.ts';

const { bind, close, describe, execute, flush, parse, sync } = frontend;

const RUNS = 300;
const CONNECTIONS = 3;

/** A value: as a literal, and as a parameter of both formats and its type. */
interface Value {
  readonly literal: string;
  readonly text: string | null;
  readonly binary: Buffer | null;
  readonly oid: number;
}

/** A statement in pieces, with a value between each two. */
interface Made {
  readonly texts: readonly string[];
  readonly values: readonly Value[];
}

const ROLE_AND_SHARD = 'current_database(), pg_is_in_recovery(), pg_backend_pid()';

/** Puts values and statements between the pieces of a template string. */
function made(strings: readonly string[], ...parts: readonly (Made | Value | string)[]): Made {
  const texts = [strings[0]];
  const values: Value[] = [];
  const append = (text: string) => texts.push((texts.pop() ?? '') + text);
  for (const [n, part] of parts.entries()) {
    if (typeof part === 'string') append(part);
    else if ('literal' in part) {
      values.push(part);
      texts.push('');
    } else {
      append(part.texts[0]);
      for (const [i, value] of part.values.entries()) {
        values.push(value);
        texts.push(part.texts[i + 1]);
      }
    }
    append(strings[n + 1]);
  }
  return { texts, values };
}

const sqlOf = ({ texts, values }: Made, spell: (value: Value, n: number) => string) =>
  texts.map((text, n) => (n < values.length ? text + spell(values[n], n) : text)).join('');

const literally = (statement: Made) => sqlOf(statement, ({ literal }) => literal);
/** The same statement with other values of the same length: nothing of it may stick to the first. */
const decoyOf = (statement: Made) => sqlOf(statement, ({ literal }) => literal.replace(/[1-9]/g, '8'));
const withParameters = (statement: Made) => sqlOf(statement, (_, n) => `$${n + 1}`);

function int(value: bigint, bytes: 4 | 8): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigInt64BE(value);
  return buffer.subarray(8 - bytes);
}

/** An array of bigint in binary: one dimension without NULLs. */
function array(values: readonly bigint[]): Buffer {
  const head = [values.length === 0 ? 0 : 1, 0, 20, ...(values.length === 0 ? [] : [values.length, 1])];
  const elements = values.flatMap(value => [frontend.int32(8), int(value, 8)]);
  return Buffer.concat([...head.map(frontend.int32), ...elements]);
}

/** Few keys, so that many statements have one shard; and a few odd ones. */
const number = fc.oneof(
  { weight: 6, arbitrary: fc.bigInt({ min: 0n, max: 9n }) },
  fc.constantFrom(-1n, -5n, 2n ** 31n, 2n ** 62n, -(2n ** 63n) + 1n),
);
const key: fc.Arbitrary<Value> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.tuple(number, fc.nat(3)).map(([n, spelling]) => ({
      literal: [`${n}`, `'${n}'`, `'${n}'::bigint`, `CAST(${n} AS bigint)`][spelling],
      text: `${n}`,
      binary: int(n, 8),
      oid: 20,
    })),
  },
  fc.constant({ literal: 'NULL', text: null, binary: null, oid: 20 }),
);
const keys: fc.Arbitrary<Value> = fc.array(fc.bigInt({ min: 0n, max: 9n }), { maxLength: 2 }).map(list => ({
  literal: `'{${list.join()}}'`,
  text: `{${list.join()}}`,
  binary: array(list),
  oid: 1016,
}));
const x: fc.Arbitrary<Value> = fc.nat(3).map(n => ({
  literal: `${n}`,
  text: `${n}`,
  binary: int(BigInt(n), 4),
  oid: 23,
}));

/** A condition on the rows of `name`. */
const conditionOf = (name: string): fc.Arbitrary<Made> =>
  fc.letrec<{ condition: Made }>(tie => {
    const one = fc.oneof(
      { weight: 6, arbitrary: key.map(k => made`${name}.id = ${k}`) },
      key.map(k => made`${k} = ${name}.id`),
      fc.tuple(key, key).map(([a, b]) => made`${name}.id IN (${a}, ${b})`),
      keys.map(list => made`${name}.id = ANY (${list})`),
      fc.tuple(key, key).map(([a, b]) => made`${name}.id BETWEEN ${a} AND ${b}`),
      fc.tuple(key, x).map(([k, n]) => made`(${name}.id, ${name}.x) = (${k}, ${n})`),
      key.map(k => made`${name}.id > ${k}`),
      x.map(n => made`${name}.x = ${n}`),
      fc.constant(made`${name}.x IS NULL`),
      key.map(k => made`${name}.x IN (SELECT s.x FROM data s WHERE s.id = ${k})`),
      fc.tuple(key, x).map(([k, n]) => made`EXISTS (SELECT FROM data s WHERE s.id = ${k} AND s.x = ${n})`),
    );
    return {
      condition: fc.oneof(
        { depthSize: 'small', weight: 4, arbitrary: one },
        { weight: 4, arbitrary: fc.tuple(key, tie('condition')).map(([k, c]) => made`(${name}.id = ${k} AND ${c})`) },
        fc.tuple(tie('condition'), tie('condition')).map(([a, b]) => made`(${a} OR ${b})`),
        tie('condition').map(c => made`NOT (${c})`),
      ),
    };
  }).condition;

const inData = conditionOf('data');

const from: fc.Arbitrary<Made> = fc.oneof(
  { weight: 3, arbitrary: inData.map(c => made`data WHERE ${c}`) },
  inData.map(c => made`data JOIN data d USING (id) WHERE ${c}`),
  inData.map(c => made`data LEFT JOIN plain ON y = data.x WHERE ${c}`),
  fc.tuple(inData, conditionOf('d')).map(([a, b]) => made`(SELECT * FROM data WHERE ${a}) AS d WHERE ${b}`),
  fc.tuple(inData, conditionOf('d')).map(([a, b]) => made`data, data d WHERE ${a} AND ${b}`),
  x.map(n => made`plain WHERE y = ${n}`),
  inData.map(c => made`plain WHERE EXISTS (SELECT FROM data WHERE ${c})`),
);

const read = fc.oneof(
  { weight: 5, arbitrary: from.map(f => made`SELECT ${ROLE_AND_SHARD}, count(*) FROM ${f}`) },
  fc.tuple(from, x).map(([f, n]) => made`SELECT ${ROLE_AND_SHARD}, count(*), random() > ${n}::int FROM ${f}`),
  inData.map(c => made`WITH w AS (SELECT FROM data WHERE ${c}) SELECT ${ROLE_AND_SHARD}, count(*) FROM w`),
);
const write = fc.oneof(
  fc
    .tuple(from, x)
    .map(([f, n]) => made`SELECT ${ROLE_AND_SHARD}, count(*), pg_advisory_xact_lock(${n}::int) FROM ${f}`),
  from.map(f => made`SELECT ${ROLE_AND_SHARD}, count(*), own() FROM ${f}`),
  inData.map(
    c =>
      made`WITH w AS (SELECT FROM data WHERE ${c} FOR UPDATE) SELECT ${ROLE_AND_SHARD} FROM (SELECT count(*) FROM w) c`,
  ),
  fc.tuple(key, x).map(([k, n]) => made`INSERT INTO data VALUES (${k}, ${n}) RETURNING ${ROLE_AND_SHARD}`),
  fc
    .tuple(key, x, key)
    .map(([a, n, b]) => made`INSERT INTO data (x, id) VALUES (${n}, ${a}), (NULL, ${b}) RETURNING ${ROLE_AND_SHARD}`),
  fc
    .tuple(key, inData)
    .map(
      ([k, c]) =>
        made`WITH w AS (INSERT INTO data SELECT ${k}, x FROM data WHERE ${c} LIMIT 1 RETURNING 1) SELECT ${ROLE_AND_SHARD}, count(*) FROM w`,
    ),
  fc
    .tuple(x, inData)
    .map(
      ([n, c]) =>
        made`WITH w AS (UPDATE data SET x = ${n} WHERE ${c} RETURNING 1) SELECT ${ROLE_AND_SHARD}, count(*) FROM w`,
    ),
  fc
    .tuple(key, inData)
    .map(
      ([k, c]) =>
        made`WITH w AS (UPDATE data SET id = ${k} WHERE ${c} RETURNING 1) SELECT ${ROLE_AND_SHARD}, count(*) FROM w`,
    ),
  inData.map(c => made`WITH w AS (DELETE FROM data WHERE ${c} RETURNING 1) SELECT ${ROLE_AND_SHARD}, count(*) FROM w`),
  fc.tuple(key, x).map(([k, n]) => made`INSERT INTO plain VALUES (${n}) RETURNING ${ROLE_AND_SHARD}, ${k}::bigint`),
);
const comment = fc.constantFrom(
  ...Array.from({ length: 12 }, () => ''),
  '/* pglynx: shard=1 */ ',
  '/* pglynx: key=5 */ ',
  '/* pglynx: role=primary */ ',
  '/* pglynx: role=replica shard=0 */ ',
  '/* pglynx: shard=3 */ ',
);
const statement = fc.tuple(comment, fc.oneof(read, write)).map(([words, s]) => made`${words}${s}`);
/** What the client has chosen in front. */
const choice = fc.constantFrom('', '', '', '', 'SET SHARD TO 1', 'SET SHARDING KEY TO 5', 'SET SERVER ROLE TO primary');

let shards: Shards;
let proxy: TestProxy;
before(async () => {
  shards = await Shards.start({
    cluster: { replicas: 1 },
    schema: `CREATE TABLE data (id bigint, x int); CREATE TABLE plain (y int);
      CREATE FUNCTION own() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1'`,
  });
  proxy = await shards.proxy({ user: { pool_size: CONNECTIONS }, general: { server_round_robin: true } });
  // Each server has all its connections, which are used in turn.
  const clients = await Promise.all(Array.from({ length: CONNECTIONS }, () => proxy.raw()));
  for (const shard of [0, 1, 2]) {
    for (const role of ['primary', 'replica']) {
      const begin = `/* pglynx: shard=${shard} role=${role} */ BEGIN`;
      await Promise.all(clients.map(client => client.query(begin)));
      await Promise.all(clients.map(client => client.query('COMMIT')));
    }
  }
  await Promise.all(clients.map(client => client.close()));
});
after(async () => {
  await proxy?.stop();
  await shards?.stop();
});

/** Role and shard, or why there are none; the words of values are left out, which differ by their form. */
function outcome({ rows, error }: Answer): string {
  if (error !== undefined) {
    const message = error.message.replace(/^.* belongs to shard/s, 'it belongs to shard').replace(/ \(.*/s, '');
    return `${error.code} ${message}`;
  }
  const [[database, replica]] = rows;
  return `${database} ${replica === 't' ? 'replica' : 'primary'}`;
}

const textual = ({ values }: Made) => ({ values: values.map(({ text }) => text), formats: [0] });
const binary = ({ values }: Made) => ({ values: values.map(({ binary }) => binary), formats: [1] });
const mixed = ({ values }: Made) => ({
  values: values.map(({ text, binary }, n) => (n % 2 === 0 ? text : binary)),
  formats: values.map((_, n) => n % 2),
});

const run = (name: string, { values, formats }: ReturnType<typeof textual> | ReturnType<typeof mixed>) => [
  bind('', name, values, { formats: values.length === 0 ? [] : formats }),
  execute(),
];

/** Server processes that executed what was prepared long before. */
const pids = new Set<string | null>();

/** Sends a statement in every way there is; `decoy` gives other values for it. */
async function eachWay(client: RawClient, statement: Made): Promise<Record<string, string>> {
  const sql = withParameters(statement);
  const oids = statement.values.map(({ oid }) => oid);
  const ready = async () => answerOf(await client.ready());
  const ways: Record<string, string> = {};

  // Prepared in front of all else: with Sync, and with types and Flush. A wrong comment is told then.
  const prepared: Record<string, Answer> = {};
  client.send(parse('early', sql), sync());
  prepared.early = await ready();
  client.send(parse('typed', sql, oids), describe('S', 'typed'), flush());
  const described = [await client.message()];
  while (!['T', 'E'].includes(described.at(-1)?.type ?? '')) described.push(await client.message());
  client.send(sync());
  prepared.typed = answerOf([...described, ...(await client.ready())]);

  client.send(parse('literal', literally(statement)), sync());
  prepared.literal = await ready();

  ways.query = outcome(answerOf(await client.query(literally(statement))));
  client.send(parse('', sql), ...run('', textual(statement)), sync());
  ways['text parameters'] = outcome(await ready());
  client.send(parse('', sql, oids), describe('S', ''), ...run('', binary(statement)), sync());
  ways['binary parameters'] = outcome(await ready());
  for (const [name, { error }] of Object.entries(prepared)) {
    if (error !== undefined) {
      ways[name] = outcome(prepared[name]);
      continue;
    }
    const given = name === 'literal' ? { texts: [], values: [] } : statement;
    for (const [form, values] of Object.entries({ text: textual(given), binary: binary(given), mixed: mixed(given) })) {
      client.send(frontend.query(decoyOf(statement)), ...run(name, values), sync());
      await ready();
      const answer = await ready();
      if (answer.error === undefined) pids.add(answer.rows[0][2]);
      ways[`${name}, ${form}`] = outcome(answer);
    }
  }
  client.send(...Object.keys(prepared).map(name => close('S', name)), sync());
  await ready();
  return ways;
}

/** What EXPLAIN ROUTE says of it, in the same words. */
async function explained(client: RawClient, statement: Made): Promise<string> {
  const { rows, error } = answerOf(await client.query(`EXPLAIN ROUTE ${literally(statement)}`));
  assert.equal(error, undefined);
  const told = new Map(rows.map(([name, value]) => [name, value ?? '']));
  const refused = told.get('refused');
  if (refused === undefined) return `s${told.get('shard')} ${told.get('role')}`;
  const [code, message] = [refused.slice(0, 5), refused.slice(7)];
  return outcome({ rows: [], tags: [], status: '', error: { code, message } });
}

suite('the same statement', () => {
  test('has one role and one shard, or one error, in every way of sending it', async t => {
    const seed = Date.now() % 2 ** 31;
    t.diagnostic(`seed ${seed}`);
    const counts = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(statement, choice, async (statement, choice) => {
        const text = literally(statement);
        // A client of its own, so that a failure is not of what was sent before.
        await using client = await proxy.raw();
        if (choice !== '') await client.query(choice);
        const told = await explained(client, statement);
        const ways = await eachWay(client, statement);
        for (const [way, found] of Object.entries(ways)) assert.equal(found, ways.query, `${way}: ${text}`);
        // What a comment sends to a replica is refused there if it writes.
        const isTold = ways.query === told || (ways.query.startsWith('25006') && told.endsWith(' replica'));
        assert.ok(isTold, `EXPLAIN ROUTE says ${told}, but it is ${ways.query}: ${text}`);
        const kind = /^s\d/.test(ways.query) ? ways.query : ways.query.slice(0, 28);
        counts.set(kind, (counts.get(kind) ?? 0) + 1);
      }),
      { numRuns: RUNS, seed, endOnFailure: true },
    );
    t.diagnostic(`${pids.size} server processes; ${JSON.stringify(Object.fromEntries(counts))}`);
    for (const shard of [0, 1, 2]) {
      for (const role of ['primary', 'replica'])
        assert.ok((counts.get(`s${shard} ${role}`) ?? 0) > 5, `${shard} ${role}`);
    }
    assert.ok([...counts].some(([kind, count]) => kind.startsWith('0A000') && count > 20));
    assert.equal(pids.size, 6 * CONNECTIONS, 'they ran on every connection');
  });
});
