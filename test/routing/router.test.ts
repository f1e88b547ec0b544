/** Where batches go: by the pool's settings, the client's commands, comments, and what the grammar says of the statements. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { PgError } from '../../src/errors.ts';
import { Demand } from '../../src/routing/demand.ts';
import { parseHint } from '../../src/routing/hints.ts';
import { type RouteInput, Router, type RoutingContext, type RoutingSettings } from '../../src/routing/router.ts';
import { Sharder } from '../../src/sharding/sharder.ts';
import type { ShardAnswer } from '../../src/sql/keys.ts';

const SPLITTING: RoutingSettings = {
  default_role: 'any',
  read_write_splitting: true,
  primary_reads_enabled: false,
};
const INPUT: RouteInput = { open: false, session: false, stale: undefined };
const NO_WISH = { role: undefined, shard: undefined, sharding_key: undefined, error: undefined } as const;

function context(settings: RoutingSettings, { shards = 1, replicas = true, home = 0 } = {}): RoutingContext {
  return {
    settings,
    sharder: new Sharder('pg_bigint_hash', shards),
    hasReplica: () => replicas,
    defaultShard: () => home,
    anyShard: () => shards - 1,
  };
}

function demand(read: boolean | undefined, answer: ShardAnswer = { kind: 'none' }): Demand {
  const result = new Demand();
  result.read = read;
  result.addShards(answer);
  return result;
}

const READ = demand(true);
const WRITE = demand(false);

function command(router: Router, text: string): PgError | undefined {
  const bytes = Buffer.from(text);
  const hint = parseHint(bytes, 0, bytes.length);
  assert.ok(hint, text);
  return router.apply(hint);
}

function routeOf(router: Router, demand: Demand, input: Partial<RouteInput> = {}) {
  const route = router.route(demand, { ...INPUT, ...input });
  if (route instanceof PgError) return assert.fail(route.message);
  return route;
}

function roleAndReason(router: Router, demand: Demand, input: Partial<RouteInput> = {}): [string, string] {
  const { role, reason } = routeOf(router, demand, input);
  return [role, reason];
}

function shardAndReason(router: Router, demand: Demand): [number, string] {
  const { shard, shardReason } = routeOf(router, demand);
  return [shard, shardReason];
}

/** SQLSTATE and message of the refusal. */
function refusalOf(router: Router, demand: Demand): string {
  const route = router.route(demand, INPUT);
  assert.ok(route instanceof PgError);
  return `${route.sqlstate} ${route.message}`;
}

test('reads go to replicas, or anywhere when the primary takes reads; the rest goes to the primary', () => {
  const router = new Router(context(SPLITTING));
  assert.deepEqual(roleAndReason(router, READ), ['replica', 'read']);
  assert.deepEqual(roleAndReason(router, WRITE), ['primary', 'write']);
  assert.deepEqual(roleAndReason(router, demand(undefined)), ['primary', 'not_inspected']);
  assert.deepEqual(roleAndReason(router, READ, { open: true }), ['primary', 'open_batch']);
  assert.deepEqual(roleAndReason(router, READ, { stale: 'recently_written' }), ['primary', 'recently_written']);
  assert.deepEqual(roleAndReason(router, READ, { stale: 'initializing' }), ['primary', 'initializing']);
  const lonely = new Router(context(SPLITTING, { replicas: false }));
  assert.deepEqual(roleAndReason(lonely, READ), ['primary', 'read_without_replica']);
  const anywhere = new Router(context({ ...SPLITTING, primary_reads_enabled: true }));
  assert.deepEqual(roleAndReason(anywhere, READ), ['any', 'read']);
});

test('default_role gives way to what a statement is, as in PgCat, and decides when nothing is inspected', () => {
  const primary = new Router(context({ ...SPLITTING, default_role: 'primary' }));
  assert.deepEqual(roleAndReason(primary, READ), ['replica', 'read']);
  for (const default_role of ['any', 'primary', 'replica'] as const) {
    const router = new Router(context({ ...SPLITTING, default_role, read_write_splitting: false }));
    assert.deepEqual(roleAndReason(router, WRITE), [default_role, 'default_role']);
    assert.deepEqual(roleAndReason(router, READ), [default_role, 'default_role']);
  }
});

test('a session that keeps one connection is on the primary, since a write may follow its first read', () => {
  assert.deepEqual(roleAndReason(new Router(context(SPLITTING)), READ, { session: true }), ['primary', 'session_mode']);
});

test('SET SERVER ROLE fixes the role until auto or default', () => {
  const router = new Router(context(SPLITTING));
  for (const role of ['primary', 'replica', 'any']) {
    command(router, `SET SERVER ROLE TO '${role}'`);
    assert.deepEqual(roleAndReason(router, WRITE), [role, 'chosen']);
    assert.equal(router.splitting, false);
    assert.equal(router.serverRole, role);
  }
  command(router, "SET SERVER ROLE TO 'auto'");
  assert.deepEqual(roleAndReason(router, READ), ['replica', 'read']);
  assert.equal(router.serverRole, 'auto');
  command(router, "SET SERVER ROLE TO 'default'");
  assert.equal(router.serverRole, 'auto');

  const plain = new Router(context({ ...SPLITTING, read_write_splitting: false, default_role: 'replica' }));
  assert.equal(plain.serverRole, 'replica');
  command(plain, "SET SERVER ROLE TO 'auto'");
  assert.deepEqual(roleAndReason(plain, WRITE), ['primary', 'write']);
  command(plain, "SET SERVER ROLE TO 'default'");
  assert.deepEqual(roleAndReason(plain, WRITE), ['replica', 'default_role']);
});

test('SET PRIMARY READS overrides the pool until default', () => {
  const router = new Router(context(SPLITTING));
  assert.equal(router.primaryReads, false);
  command(router, 'SET PRIMARY READS TO ON');
  assert.equal(router.primaryReads, true);
  assert.deepEqual(roleAndReason(router, READ), ['any', 'read']);
  command(router, "SET PRIMARY READS TO 'default'");
  assert.equal(router.primaryReads, false);
  const anywhere = new Router(context({ ...SPLITTING, primary_reads_enabled: true }));
  command(anywhere, "SET PRIMARY READS TO 'OFF'");
  assert.deepEqual(roleAndReason(anywhere, READ), ['replica', 'read']);
});

test('a reload changes the settings and not the choices', () => {
  const router = new Router(context(SPLITTING));
  router.configure(context({ ...SPLITTING, primary_reads_enabled: true }));
  assert.deepEqual(roleAndReason(router, READ), ['any', 'read']);
  command(router, "SET SERVER ROLE TO 'primary'");
  router.configure(context(SPLITTING));
  assert.deepEqual(roleAndReason(router, READ), ['primary', 'chosen']);
});

test('a comment decides the role of its statement alone', () => {
  const router = new Router(context(SPLITTING));
  const asking = demand(false);
  asking.addWish({ ...NO_WISH, role: 'replica' }, true);
  assert.deepEqual(roleAndReason(router, asking), ['replica', 'comment']);
  assert.deepEqual(roleAndReason(router, WRITE), ['primary', 'write']);
  const wrong = demand(true);
  wrong.addWish({ ...NO_WISH, error: 'role must be one of these' }, true);
  assert.match(refusalOf(router, wrong), /^22023 .*role must be one of these/);
});

suite('a shard', () => {
  const three = { shards: 3, home: 1 };
  const five = { kind: 'one', shard: 2, how: 'data.id = 5' } as const;

  test('is 0 where there is one, whatever is chosen', () => {
    const router = new Router(context(SPLITTING));
    assert.deepEqual(shardAndReason(router, demand(false, five)), [0, 'only_shard']);
    assert.equal(command(router, 'SET SHARDING KEY TO 13'), undefined);
    assert.deepEqual(shardAndReason(router, WRITE), [0, 'only_shard']);
  });

  test('comes from the key, else from default_shard, and is forgotten', () => {
    const router = new Router(context(SPLITTING, three));
    assert.deepEqual(shardAndReason(router, demand(false, five)), [2, 'key']);
    assert.deepEqual(shardAndReason(router, WRITE), [1, 'default']);
    assert.equal(router.chosenShard, undefined);
  });

  test('that the client chose stays until it chooses another', () => {
    const router = new Router(context(SPLITTING, three));
    assert.equal(command(router, 'SET SHARDING KEY TO 5'), undefined);
    assert.deepEqual(shardAndReason(router, WRITE), [2, 'chosen']);
    assert.equal(command(router, 'set shard to any'), undefined);
    assert.equal(router.chosenShard, 2);
    assert.equal(command(router, "SET SHARD TO '0'"), undefined);
    assert.deepEqual(shardAndReason(router, READ), [0, 'chosen']);
    assert.match(command(router, 'SET SHARD TO 5')?.message ?? '', /shard 5 is not configured.*staying on shard 0/);
    assert.equal(router.chosenShard, 0);
    assert.equal(command(router, 'SET SHARD TO DEFAULT'), undefined);
    assert.equal(router.chosenShard, undefined);
  });

  test('that the client chose is no place for a row that belongs elsewhere, but it may look there', () => {
    const router = new Router(context(SPLITTING, three));
    command(router, 'SET SHARD TO 0');
    assert.match(
      refusalOf(router, demand(false, five)),
      /^0A000 data.id = 5 belongs to shard 2, but shard 0 was chosen/,
    );
    assert.deepEqual(shardAndReason(router, demand(true, five)), [0, 'chosen']);
    const everywhere = { kind: 'every', how: 'no value for id' } as const;
    assert.deepEqual(shardAndReason(router, demand(false, everywhere)), [0, 'chosen']);
  });

  test('that nobody can name is an error that says so', () => {
    const router = new Router(context(SPLITTING, three));
    const several = { kind: 'several', shards: [0, 2], how: 'data.id = 5, 6' } as const;
    assert.match(refusalOf(router, demand(true, several)), /^0A000 .*several shards: 0, 2/);
    assert.match(refusalOf(router, demand(true, { kind: 'every', how: 'no id' })), /^0A000 .*every shard: no id/);
    assert.match(refusalOf(router, demand(false, { kind: 'refused', how: 'COPY' })), /^0A000 .*cannot be known: COPY/);
    const both = demand(false, five);
    both.addShards({ kind: 'one', shard: 0, how: 'data.id = 6' });
    assert.match(refusalOf(router, both), /^0A000 .*several shards: 0, 2/);
  });

  test('in a comment is for its statement alone, and must exist', () => {
    const router = new Router(context(SPLITTING, three));
    command(router, 'SET SHARD TO 1');
    const asking = demand(false);
    asking.addWish({ ...NO_WISH, shard: 2 }, true);
    assert.deepEqual(shardAndReason(router, asking), [2, 'comment']);
    assert.deepEqual(shardAndReason(router, WRITE), [1, 'chosen']);
    const keyed = demand(false);
    keyed.addWish({ ...NO_WISH, sharding_key: '6' }, true);
    assert.deepEqual(shardAndReason(router, keyed), [0, 'comment']);
    const beyond = demand(false);
    beyond.addWish({ ...NO_WISH, shard: 3 }, true);
    assert.match(refusalOf(router, beyond), /^22023 shard 3 is not configured/);
  });

  test('of a transaction that is under way cannot be left', () => {
    const router = new Router(context(SPLITTING, three));
    assert.equal(router.refusalOn(2, demand(false, five)), undefined);
    assert.match(router.refusalOn(1, demand(true, five))?.message ?? '', /is on shard 1 and cannot go on with shard 2/);
    assert.equal(router.refusalOn(1, WRITE), undefined);
    assert.ok(router.refusalOn(1, demand(true, { kind: 'every', how: 'no id' })));
    const asking = demand(false);
    asking.addWish({ ...NO_WISH, shard: 2 }, true);
    assert.match(router.refusalOn(1, asking)?.message ?? '', /the transaction is on shard 1/);
  });
});
