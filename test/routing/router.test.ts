/** Where batches go: by the pool's settings, the client's commands, and what the grammar says of the statements. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseHint } from '../../src/routing/hints.ts';
import { type RouteInput, Router, type RoutingSettings } from '../../src/routing/router.ts';

const SPLITTING: RoutingSettings = {
  default_role: 'any',
  read_write_splitting: true,
  primary_reads_enabled: false,
};
const READ: RouteInput = { shard: 0, read: true, open: false, hasReplica: true, session: false };
const WRITE: RouteInput = { ...READ, read: false };

function command(router: Router, text: string): void {
  const hint = parseHint(text);
  assert.ok(hint, text);
  router.apply(hint);
}

function roleAndReason(router: Router, input: RouteInput): [string, string] {
  const { role, reason } = router.route(input);
  return [role, reason];
}

test('reads go to replicas, or anywhere when the primary takes reads; the rest goes to the primary', () => {
  const router = new Router(SPLITTING);
  assert.deepEqual(roleAndReason(router, READ), ['replica', 'read']);
  assert.deepEqual(roleAndReason(router, WRITE), ['primary', 'write']);
  assert.deepEqual(roleAndReason(router, { ...READ, read: undefined }), ['primary', 'not_inspected']);
  assert.deepEqual(roleAndReason(router, { ...READ, open: true }), ['primary', 'open_batch']);
  assert.deepEqual(roleAndReason(router, { ...READ, hasReplica: false }), ['primary', 'read_without_replica']);
  const anywhere = new Router({ ...SPLITTING, primary_reads_enabled: true });
  assert.deepEqual(roleAndReason(anywhere, READ), ['any', 'read']);
});

test('default_role gives way to what a statement is, as in PgCat, and decides when nothing is inspected', () => {
  assert.deepEqual(roleAndReason(new Router({ ...SPLITTING, default_role: 'primary' }), READ), ['replica', 'read']);
  for (const default_role of ['any', 'primary', 'replica'] as const) {
    const router = new Router({ ...SPLITTING, default_role, read_write_splitting: false });
    assert.deepEqual(roleAndReason(router, WRITE), [default_role, 'default_role']);
    assert.deepEqual(roleAndReason(router, READ), [default_role, 'default_role']);
  }
});

test('a session that keeps one connection is on the primary, since a write may follow its first read', () => {
  assert.deepEqual(roleAndReason(new Router(SPLITTING), { ...READ, session: true }), ['primary', 'session_mode']);
});

test('SET SERVER ROLE fixes the role until auto or default', () => {
  const router = new Router(SPLITTING);
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

  const plain = new Router({ ...SPLITTING, read_write_splitting: false, default_role: 'replica' });
  assert.equal(plain.serverRole, 'replica');
  command(plain, "SET SERVER ROLE TO 'auto'");
  assert.deepEqual(roleAndReason(plain, WRITE), ['primary', 'write']);
  command(plain, "SET SERVER ROLE TO 'default'");
  assert.deepEqual(roleAndReason(plain, WRITE), ['replica', 'default_role']);
});

test('SET PRIMARY READS overrides the pool until default', () => {
  const router = new Router(SPLITTING);
  assert.equal(router.primaryReads, false);
  command(router, 'SET PRIMARY READS TO ON');
  assert.equal(router.primaryReads, true);
  assert.deepEqual(roleAndReason(router, READ), ['any', 'read']);
  command(router, "SET PRIMARY READS TO 'default'");
  assert.equal(router.primaryReads, false);
  const anywhere = new Router({ ...SPLITTING, primary_reads_enabled: true });
  command(anywhere, "SET PRIMARY READS TO 'OFF'");
  assert.deepEqual(roleAndReason(anywhere, READ), ['replica', 'read']);
});

test('a reload changes the settings and not the choices', () => {
  const router = new Router(SPLITTING);
  router.configure({ ...SPLITTING, primary_reads_enabled: true });
  assert.deepEqual(roleAndReason(router, READ), ['any', 'read']);
  command(router, "SET SERVER ROLE TO 'primary'");
  router.configure(SPLITTING);
  assert.deepEqual(roleAndReason(router, READ), ['primary', 'chosen']);
});
