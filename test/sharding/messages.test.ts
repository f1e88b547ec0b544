/** Routing commands message by message: as a server answers its own statements, and never in one batch with those. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { decode, type Message } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { TestProxy } from '../proxy/index.ts';
import { answerOf, KEYS, Shards } from './shards.ts';

const { bind, close, describe, execute, flush, parse, query, sync } = frontend;

const WHERE = 'SELECT current_database(), pg_is_in_recovery()';
const step = (sql: string) => [parse('', sql), bind('', ''), execute()];

let shards: Shards;
let proxy: TestProxy;
before(async () => {
  shards = await Shards.start({ cluster: { replicas: 1 } });
  proxy = await shards.proxy();
});
after(async () => {
  await proxy?.stop();
  await shards?.stop();
});

suite('messages of the extended protocol', () => {
  const types = (messages: readonly Message[]) => messages.map(({ type }) => type).join('');

  test('are answered one by one, as a server does', async () => {
    await using client = await proxy.raw();
    client.send(
      parse('show', 'SHOW SHARD'),
      describe('S', 'show'),
      bind('', 'show'),
      describe('P', ''),
      execute(),
      close('P', ''),
      close('S', 'show'),
      sync(),
    );
    const messages = await client.ready();
    assert.equal(types(messages), '1tT2TDC33Z');
    const columns = messages
      .map(decode)
      .filter(message => message.name === 'RowDescription')
      .flatMap(({ columns }) => columns);
    assert.deepEqual(columns, [
      { name: 'shard', type: 25, format: 0 },
      { name: 'shard', type: 25, format: 0 },
    ]);
    client.send(
      parse('set', 'SET SHARD TO 1'),
      describe('S', 'set'),
      bind('p', 'set'),
      describe('P', 'p'),
      execute('p'),
      sync(),
    );
    assert.equal(types(await client.ready()), '1tn2nCZ');
    client.send(bind('', 'show'), execute(), sync());
    const { error, status } = answerOf(await client.ready());
    assert.deepEqual([error?.code, status], ['26000', 'I'], 'what was closed is gone');
  });

  test('are answered at once, whether a Flush follows or not', async () => {
    await using client = await proxy.raw();
    for (const [message, type] of [
      [parse('show', 'SHOW SHARD'), '1'],
      [describe('S', 'show'), 'T'],
      [bind('', 'show'), '2'],
      [execute(), 'C'],
      [close('S', 'show'), '3'],
    ] as const) {
      client.send(message, flush());
      await client.until(type);
      assert.ok(await client.silent(5));
    }
    client.send(sync());
    assert.equal(types(await client.ready()), 'Z');
  });

  test('with Flush hold no connection', async () => {
    await using narrow = await shards.proxy({ user: { pool_size: 1 } });
    await using one = await narrow.raw();
    await using other = await narrow.raw();
    one.send(...step('SHOW SHARD'), flush());
    await one.until('C');
    assert.deepEqual(answerOf(await other.query(WHERE)).rows, [['s0', 't']]);
    one.send(...step('SET SHARD TO 1'), sync());
    assert.deepEqual(answerOf(await one.ready()).tags, ['SET SHARD']);
    assert.deepEqual(answerOf(await one.query(WHERE)).rows, [['s1', 't']]);
  });

  test('several commands in one batch are carried out in order', async () => {
    await using client = await proxy.raw();
    client.send(...step('SHOW SHARD'), ...step('SET SHARD TO 2'), ...step('SHOW SHARD'), sync());
    const { rows, tags, status } = answerOf(await client.ready());
    assert.deepEqual([rows, tags, status], [[['unset'], ['2']], ['SELECT 1', 'SET SHARD', 'SELECT 1'], 'I']);
  });

  test('many batches in one write are carried out in order, between statements for servers', async () => {
    await using client = await proxy.raw();
    const texts = KEYS.flatMap((_, shard) => [`SET SHARD TO ${shard}`, WHERE, 'SHOW SHARD', WHERE]);
    client.send(...texts.flatMap((sql, n) => (n % 3 === 0 ? [query(sql)] : [...step(sql), sync()])));
    for (const [shard] of KEYS.entries()) {
      assert.deepEqual(answerOf(await client.ready()).tags, ['SET SHARD']);
      assert.deepEqual(answerOf(await client.ready()).rows, [[`s${shard}`, 't']]);
      assert.deepEqual(answerOf(await client.ready()).rows, [[String(shard)]]);
      assert.deepEqual(answerOf(await client.ready()).rows, [[`s${shard}`, 't']]);
    }
  });

  test('a prepared command is executed again and again, and Close ends it', async () => {
    await using client = await proxy.raw();
    client.send(parse('one', 'SET SHARD TO 1'), parse('two', 'SET SHARD TO 2'), parse('show', 'SHOW SHARD'), sync());
    assert.equal(types(await client.ready()), '111Z');
    for (let round = 0; round < 5; round++) {
      for (const [name, shard] of [
        ['one', '1'],
        ['two', '2'],
      ]) {
        client.send(bind('', name), execute(), sync());
        await client.ready();
        client.send(bind('', 'show'), execute(), bind('', 'show'), execute(), sync());
        assert.deepEqual(answerOf(await client.ready()).rows, [[shard], [shard]]);
        assert.deepEqual(answerOf(await client.query(WHERE)).rows, [[`s${shard}`, 't']]);
      }
    }
    client.send(close('S', 'one'), close('S', 'nobody'), sync());
    assert.equal(types(await client.ready()).at(-1), 'Z');
    client.send(bind('', 'one'), execute(), sync());
    assert.equal(answerOf(await client.ready()).error?.code, '26000');
  });

  test('what is gone is told as a server tells it, also by a client without a shard', async () => {
    await using client = await proxy.raw();
    client.send(bind('', 'nobody'), execute(), sync());
    assert.equal(answerOf(await client.ready()).error?.code, '26000');
    client.send(describe('S', 'nobody'), sync());
    assert.equal(answerOf(await client.ready()).error?.code, '26000');
  });

  test('a name is a command or a statement, whichever was prepared last', async () => {
    await using client = await proxy.raw();
    for (const name of ['', 'same']) {
      for (let round = 0; round < 3; round++) {
        client.send(parse(name, 'SHOW SHARD'), bind('', name), execute(), sync());
        assert.deepEqual(answerOf(await client.ready()).rows, [['unset']], `${name} ${round}`);
        if (name !== '') {
          client.send(close('S', name), sync());
          await client.ready();
        }
        client.send(parse(name, WHERE), bind('', name), execute(), sync());
        assert.deepEqual(answerOf(await client.ready()).rows, [['s0', 't']], `${name} ${round}`);
        if (name !== '') {
          client.send(close('S', name), sync());
          await client.ready();
        }
      }
    }
  });

  test('what a client does in between does not disturb its prepared commands', async () => {
    await using client = await proxy.raw();
    client.send(parse('show', 'SHOW SHARD'), sync());
    await client.ready();
    client.send(parse('read', WHERE), describe('S', 'read'), bind('', 'read'), execute(), sync());
    assert.deepEqual(answerOf(await client.ready()).rows, [['s0', 't']]);
    client.send(describe('S', 'show'), sync());
    assert.equal(types(await client.ready()), 'tTZ');
    client.send(bind('', 'show'), execute(), sync());
    assert.deepEqual(answerOf(await client.ready()).rows, [['unset']]);
    client.send(bind('', 'read'), execute(), sync());
    assert.deepEqual(answerOf(await client.ready()).rows, [['s0', 't']]);
  });
});

suite('a command and a statement for a server in one batch', () => {
  const SET = step('SET SHARD TO 1');
  const INSERT = step('INSERT INTO data VALUES (2)');
  const mixtures: Readonly<Record<string, Buffer[]>> = {
    'the command first': [...SET, ...INSERT, sync()],
    'the statement first': [...INSERT, ...SET, sync()],
    'the statement between': [...SET, ...INSERT, ...SET, sync()],
    'the command prepared between': [parse('', 'SELECT 1'), parse('set', 'SET SHARD TO 1'), sync()],
    'a Flush between': [...SET, flush(), ...INSERT, sync()],
    'a Flush behind each': [parse('', 'SET SHARD TO 1'), flush(), parse('x', 'SELECT 1'), flush(), sync()],
  };
  for (const [name, messages] of Object.entries(mixtures)) {
    test(`${name}: an error, and the session goes on`, async () => {
      await using client = await proxy.raw();
      client.send(...messages, query(WHERE), query('SHOW SHARD'));
      const { error, status } = answerOf(await client.ready());
      assert.deepEqual([error?.code, status], ['0A000', 'I']);
      const [[database]] = answerOf(await client.ready()).rows;
      const [[shard]] = answerOf(await client.ready()).rows;
      // What was executed in front of the error stays.
      assert.deepEqual(
        [database, shard],
        name.includes('command first') || name === 'the statement between' || name === 'a Flush between'
          ? ['s1', '1']
          : ['s0', 'unset'],
      );
      assert.deepEqual(await shards.keys(), [[], [], []]);
    });
  }

  test('the statement already sent by a Flush: an error, all is rolled back, and the session goes on', async () => {
    await using client = await proxy.raw();
    client.send(...INSERT, flush());
    await client.until('C');
    client.send(...SET, sync());
    const { error, status } = answerOf(await client.ready());
    assert.deepEqual([error?.code, status], ['0A000', 'I']);
    assert.deepEqual(answerOf(await client.query('SHOW SHARD')).rows, [['unset']]);
    assert.deepEqual(await shards.keys(), [[], [], []]);
    assert.deepEqual(answerOf(await client.query(WHERE)).rows, [['s0', 't']]);
  });

  test('a query behind commands without a Sync ends their batch, as it does on a server', async () => {
    await using client = await proxy.raw();
    client.send(...SET, query(WHERE), query('SHOW SHARD'));
    const first = answerOf(await client.ready());
    assert.deepEqual(first.rows, [['s1', 't']]);
    assert.deepEqual(answerOf(await client.ready()).rows, [['1']]);
  });
});
