/** `pglynx demo`: what it prints works when it is copied, and Ctrl-C leaves nothing behind. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { dirname } from 'node:path';
import { suite, test } from 'node:test';
import { freePort } from '../../src/demo/postgres.ts';
import { Command } from './command.ts';

suite('pglynx demo', () => {
  test('brings up a cluster whose commands work, and takes everything down on SIGINT', async context => {
    const port = await freePort();
    await using demo = Command.pglynx('demo', '--port', String(port), '--replicas', '1');
    await demo.printed(/Ctrl-C stops everything/);
    const replica = /replica1 +127\.0\.0\.1:(\d+)/.exec(demo.output)?.[1];
    const [, file = ''] = /configured by (\S+)/.exec(demo.output) ?? [];
    assert.ok(replica !== undefined && existsSync(file), demo.output);

    const line = (start: string) => demo.output.split('\n').find(text => text.startsWith(`  ${start}`)) ?? '';
    await using node = Command.run('sh', ['-c', line('node ')]);
    assert.equal(await node.ended, 0, node.complaint);
    assert.match(node.output, new RegExp(`│ ${replica} +│ true +│`));

    const psql = Command.run('sh', ['-c', 'command -v psql']);
    if ((await psql.ended) === 0) {
      await using read = Command.run('sh', ['-c', line('psql postgres://demo')]);
      assert.equal(await read.ended, 0, read.complaint);
      assert.match(read.output, new RegExp(` ${replica} \\| t`));
      await using admin = Command.run('sh', ['-c', line('psql postgres://admin')]);
      assert.equal(await admin.ended, 0, admin.complaint);
      assert.match(admin.output, /demo/);
    } else {
      context.diagnostic('psql is not installed: its lines were not run');
    }

    demo.signal('SIGINT');
    assert.equal(await demo.ended, 0);
    assert.equal(existsSync(dirname(file)), false);
    for (const closed of [port, Number(replica)]) assert.equal(await isOpen(closed), false, `port ${closed}`);
  });

  test('a taken port is one line that names the option', async () => {
    const holder = createServer();
    const port = await freePort();
    await new Promise<void>(resolve => {
      holder.listen(port, '127.0.0.1', resolve);
    });
    await using demo = Command.pglynx('demo', '--port', String(port));
    assert.equal(await demo.ended, 1);
    assert.match(demo.complaint, /^pglynx: [^\n]*taken[^\n]*demo --port \d+\n$/);
    assert.equal(demo.output, '');
    holder.close();
  });
});

function isOpen(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    }).once('error', () => resolve(false));
  });
}
