/** The ban list: which bans are new, so that each is logged and counted once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestControl } from '../admin/control.ts';

test('a ban is new when there is none, or none that is not over', () => {
  const { cluster, pool } = new TestControl().pool('shop', 'bob', 'shop_shard_0_replica_0');
  const ban = (now_s: number) => cluster.bans.ban(pool, 'FailedCheckout', 'no', now_s * 1000);
  // ban_time is 60 s, from the last failure on.
  assert.deepEqual([ban(0), ban(1), ban(60), ban(119), ban(179), ban(300)], [true, false, false, false, true, true]);
  assert.equal(pool.account.bans.get('FailedCheckout'), 3);
  assert.equal(cluster.bans.bans(pool, 359_000), true);
  assert.equal(cluster.bans.bans(pool, 360_000), false);
  assert.equal(cluster.bans.entries.size, 1, 'to look changes nothing');
});
