/** Gates of databases and users: what was said last holds, also for those that come later. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Gates } from '../../src/pool/gates.ts';

test('what is said of all, of a database and of a user', () => {
  const gates = new Gates();
  assert.equal(gates.isClosed({}), false);
  gates.close({});
  assert.equal(gates.isClosed({}), true);
  const alice = gates.of('shop', 'alice');
  const bob = gates.of('shop', 'bob');
  const events = gates.of('events', 'bob');
  assert.deepEqual([alice.closed, bob.closed, events.closed], [true, true, true]);
  gates.open({ database: 'shop' });
  assert.deepEqual([alice.closed, bob.closed, events.closed], [false, false, true]);
  assert.deepEqual([gates.of('shop', 'carol').closed, gates.of('other', 'carol').closed], [false, true]);
  gates.close({ database: 'shop', user: 'bob' });
  assert.deepEqual([alice.closed, bob.closed, gates.isClosed({ database: 'shop', user: 'bob' })], [false, true, true]);
  assert.deepEqual([gates.isClosed({ database: 'shop' }), gates.isClosed({ database: 'events' })], [false, true]);
  gates.open({});
  assert.deepEqual([bob.closed, events.closed, gates.of('last', 'one').closed], [false, false, false]);
  gates.close({ database: 'later' });
  assert.equal(gates.isClosed({ database: 'later' }), true);
  assert.equal(gates.of('later', 'alice').closed, true);
});

test('a gate that belongs to nobody any more is forgotten', () => {
  const gates = new Gates();
  const gate = gates.of('shop', 'alice');
  gates.close({ database: 'shop', user: 'alice' });
  gates.prune(() => true);
  assert.equal(gates.of('shop', 'alice'), gate);
  gates.prune(() => false);
  assert.notEqual(gates.of('shop', 'alice'), gate);
  assert.equal(gates.of('shop', 'alice').closed, false);
});
