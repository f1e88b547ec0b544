/** Prepared statements through pglynx as straight to PostgreSQL: every byte of every reply, whatever the room for them. */
import { after, before, suite, test } from 'node:test';
import * as frontend from '../client/frontend.ts';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';
import { assertSame, type Step, send, straightTo, through } from './script.ts';

const { bind, close, describe, execute, parse, query } = frontend;
const SYNC = frontend.sync();
const FLUSH = frontend.flush();
const WAIT: Step = { mark: 'wait' };

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE items (n int PRIMARY KEY, s text)');
  await cluster.sql("INSERT INTO items SELECT n, 'item ' || n FROM generate_series(1, 5) AS n");
  await cluster.sql('GRANT ALL ON items TO PUBLIC');
});
after(() => cluster.stop());

/** Binds and executes; the Sync is the caller's. */
const run = (statement: string, ...values: (string | null)[]) => [bind('', statement, values), execute()];

suite('the same bytes as straight from PostgreSQL', () => {
  const select = 'SELECT n, s FROM items WHERE n = $1';
  /** What another client does in between: its own named and unnamed statements. */
  const disturb: Step = {
    other: Buffer.concat([
      parse('s', 'SELECT 1'),
      parse('', 'SELECT 2'),
      ...run('s'),
      ...run(''),
      close('S', 's'),
      SYNC,
    ]),
  };
  const scripts: Record<string, Step[]> = {
    'named, in one batch': [send(parse('s', select), describe('S', 's'), ...run('s', '1'), describe('P', ''), SYNC)],
    'named, over batches, with another client in between': [
      send(parse('s', select), SYNC),
      WAIT,
      disturb,
      send(describe('S', 's'), SYNC),
      WAIT,
      disturb,
      send(bind('p', 's', ['2']), describe('P', 'p'), execute('p'), SYNC, ...run('s', '3'), SYNC),
    ],
    'unnamed, over batches, with another client in between': [
      send(parse('', select), SYNC),
      WAIT,
      disturb,
      send(describe('S', ''), SYNC),
      WAIT,
      disturb,
      send(...run('', '2'), SYNC),
      WAIT,
      disturb,
      send(...run('', '3'), SYNC),
    ],
    'unnamed, the same text again and again': [
      ...[1, 2, 3, 4].flatMap(n => [
        send(
          parse('', select),
          describe('S', ''),
          ...run('', String(n)),
          SYNC,
          ...run('', '5'),
          SYNC,
          describe('S', ''),
        ),
        disturb,
        send(SYNC, bind('', '', []), SYNC),
      ]),
    ],
    'unnamed, in a transaction': [
      send(query('BEGIN'), parse('', select), SYNC, ...run('', '1'), SYNC, ...run('', '2'), SYNC, query('COMMIT')),
      send(...run('', '1'), SYNC),
    ],
    'with types of parameters, NULL, and formats': [
      send(parse('s', 'SELECT $1, $2 + 1, $3::text', [25, 20]), describe('S', 's'), SYNC),
      send(bind('', 's', ['a', '41', null], { formats: [0, 0, 0], resultFormats: [1, 1, 0] }), execute(), SYNC),
      send(bind('', 's', ['a', frontend.int32(0), null], { formats: [0, 1, 0] }), execute(), SYNC),
    ],
    'without a result': [
      send(
        parse('s', 'UPDATE items SET s = s WHERE n = $1'),
        describe('S', 's'),
        ...run('s', '1'),
        describe('P', ''),
        SYNC,
      ),
    ],
    empty: [send(parse('s', ''), describe('S', 's'), ...run('s'), SYNC, ...run('s'), SYNC)],
    'answered at Flush': [
      send(parse('s', select), describe('S', 's'), FLUSH),
      { until: 'T' },
      send(bind('', 's', ['1']), FLUSH),
      { until: '2' },
      send(execute(), FLUSH),
      { until: 'C' },
      send(parse('s2', select), close('S', 's'), FLUSH),
      { until: '3' },
      send(close('S', 's2'), parse('s', select), FLUSH),
      { until: '1' },
      send(SYNC),
    ],
    'a name that is taken': [
      send(parse('s', select), SYNC, parse('s', 'SELECT 2'), SYNC, parse('s', select), SYNC, ...run('s', '1'), SYNC),
      disturb,
      send(parse('s', 'SELECT 3'), ...run('s'), SYNC, parse('s', 'SELEC'), SYNC, parse('s', 'SELECT x'), SYNC),
      send(...run('s', '1'), SYNC),
    ],
    'a name that is taken, in one batch': [
      send(parse('s', select), parse('s', 'SELECT 2'), SYNC, ...run('s', '1'), SYNC),
    ],
    'a name that is free again': [
      send(parse('s', select), close('S', 's'), parse('s', 'SELECT 2'), ...run('s'), SYNC, ...run('s'), SYNC),
      send(close('S', 's'), SYNC, ...run('s'), SYNC, close('S', 's'), SYNC, parse('s', 'SELECT 4'), ...run('s'), SYNC),
    ],
    'two names for one text': [
      send(parse('a', select), parse('b', select), SYNC, ...run('b', '1'), SYNC, ...run('a', '2'), SYNC),
      send(...run('b'), SYNC, ...run('a', '1', '2'), SYNC, parse('b', 'SELECT 1'), SYNC, parse('a', 'SELECT 1'), SYNC),
      send(...run('a', '1'), ...run('b', '1', '2'), SYNC, ...run('b', '1'), ...run('a'), SYNC),
      send(close('S', 'a'), ...run('b', '1'), SYNC, ...run('a', '1'), SYNC, ...run('b'), SYNC),
    ],
    'unknown names': [
      send(...run('s'), SYNC, describe('S', 's'), SYNC, close('S', 's'), SYNC, query('SELECT 1')),
      send(execute('p'), SYNC, describe('P', 'p'), SYNC, close('P', 'p'), SYNC, query('SELECT 2')),
      send(parse('s', select), SYNC, ...run('S'), SYNC, ...run('s', '1'), SYNC),
    ],
    'no unnamed statement yet': [
      disturb,
      send(describe('S', ''), SYNC, ...run(''), SYNC, close('S', ''), SYNC, query('SELECT 1'), execute(), SYNC),
    ],
    'no unnamed statement after a simple query': [
      send(parse('', select), SYNC, query('SELECT 1'), ...run('', '1'), SYNC, describe('S', ''), SYNC),
      send(parse('', select), SYNC, query(''), ...run('', '1'), SYNC),
      send(parse('', select), SYNC, query('SELEC'), ...run('', '1'), SYNC),
    ],
    'no unnamed statement after a simple query in the same batch': [
      send(parse('', select), query('SELECT 1'), ...run('', '1'), SYNC, ...run('', '1'), SYNC),
    ],
    'an unnamed statement survives a function call': [
      send(parse('', select), frontend.functionCall(177, ['1', '2']), ...run('', '1'), SYNC),
    ],
    'no unnamed statement after a Parse that fails': [
      send(parse('', select), SYNC, parse('', 'SELEC'), SYNC, ...run('', '1'), SYNC),
      send(parse('', select), parse('', 'SELECT x'), SYNC, describe('S', ''), SYNC),
    ],
    'no unnamed statement after its Close': [
      send(parse('', select), SYNC, close('S', ''), SYNC, ...run('', '1'), SYNC),
    ],
    'what is skipped changes nothing': [
      send(parse('', select), parse('s', select), SYNC),
      send(
        ...run('unknown'),
        parse('', 'SELECT 2'),
        parse('', 'SELECT 3'),
        close('S', 's'),
        parse('t', 'SELECT 4'),
        SYNC,
      ),
      send(...run('', '1'), SYNC, ...run('s', '2'), SYNC, ...run('t'), SYNC),
      send(...run('unknown'), query('SELECT 5'), close('S', ''), query('SELECT 6'), SYNC, ...run('', '3'), SYNC),
      send(parse('u', 'SELEC'), parse('u', 'SELECT 7'), ...run('u'), SYNC, ...run('u'), SYNC),
    ],
    'skipped while the client goes on': [
      send(...run('unknown'), FLUSH),
      { until: 'E' },
      send(
        parse('s', select),
        query('SELECT 1'),
        frontend.functionCall(177, ['1', '2']),
        FLUSH,
        query('SELECT 2'),
        SYNC,
      ),
      send(...run('s', '1'), SYNC),
    ],
    'a Parse that fails is not remembered': [
      send(parse('s', 'SELECT * FROM later'), SYNC, parse('s', 'SELECT * FROM later'), SYNC, ...run('s'), SYNC),
      send(parse('s', select), SYNC, ...run('s', '1'), SYNC),
    ],
    'statements outlive the transaction that made them': [
      send(query('BEGIN'), parse('s', select), SYNC, query('ROLLBACK'), ...run('s', '1'), SYNC),
      send(parse('t', select), ...run('t'), SYNC, ...run('t', '2'), SYNC),
    ],
    'in a failed transaction': [
      send(parse('s', select), parse('r', 'ROLLBACK'), SYNC, query('BEGIN'), ...run('s', '1'), ...run('r'), SYNC),
      send(query('BEGIN'), ...run('s', '1'), query('SELEC'), parse('t', select), SYNC, ...run('s', '1'), SYNC),
      send(describe('S', 's'), SYNC, parse('', 'ROLLBACK'), ...run(''), SYNC, ...run('t', '1'), SYNC),
      send(
        query('BEGIN'),
        ...run('s', '1'),
        query('SELEC'),
        ...run('r'),
        SYNC,
        parse('t', select),
        ...run('t', '1'),
        SYNC,
      ),
    ],
    'a name that is taken, in a failed transaction': [
      send(parse('s', select), parse('t', select), parse('u', 'SELECT 3'), SYNC, query('BEGIN'), query('SELEC')),
      send(
        parse('s', 'ROLLBACK'),
        SYNC,
        parse('s', select),
        SYNC,
        parse('s', 'SELEC'),
        SYNC,
        parse('t', 'COMMIT'),
        SYNC,
      ),
      send(parse('u', 'ROLLBACK TO a'), SYNC, query('ROLLBACK'), ...run('s', '1'), SYNC, ...run('u'), SYNC),
    ],
    'a portal outlives its statement': [
      send(query('BEGIN'), parse('s', 'SELECT n FROM items ORDER BY n'), bind('p', 's'), close('S', 's'), SYNC),
      send(
        execute('p', 2),
        SYNC,
        execute('p', 2),
        SYNC,
        parse('s', 'SELECT 1'),
        ...run('s'),
        SYNC,
        execute('p', 0),
        SYNC,
      ),
      send(execute('p', 0), SYNC, query('COMMIT'), execute('p', 0), SYNC),
    ],
    "names that look like pglynx's own": [
      disturb,
      send(...[1, 2, 3, 4, 5].flatMap(n => [...run(`pglynx_${n}`), SYNC, describe('S', `pglynx_${n}`), SYNC])),
      send(parse('pglynx_1', select), SYNC, ...run('pglynx_1', '1'), SYNC, parse('pglynx_1', select), SYNC),
      send(close('S', 'pglynx_1'), SYNC, close('S', 'pglynx_2'), SYNC, ...run('pglynx_1', '1'), SYNC),
      send(parse('s', select), SYNC, ...[1, 2, 3, 4, 5].map(n => query(`SELECT '"pglynx_${n}"'::int`))),
    ],
    'names of any kind': [
      ...['S', '"quoted"', "it's", 'with space', 'ünïcode', '-', '%s', 'line\nbreak', 'x'.repeat(60)].flatMap(name => [
        send(parse(name, select), SYNC, ...run(name), SYNC, ...run(name, '1'), SYNC, parse(name, select), SYNC),
        send(close('S', name), SYNC, describe('S', name), SYNC),
      ]),
    ],
    'malformed messages': [
      send(frontend.message('P', Buffer.from('no end')), SYNC, frontend.message('P', Buffer.from('s\0no end')), SYNC),
      send(frontend.message('B', Buffer.from('p')), SYNC, frontend.message('B', Buffer.from('p\0s')), SYNC),
      send(frontend.message('D', Buffer.from('')), SYNC, frontend.message('D', Buffer.from('Sno end')), SYNC),
      send(frontend.message('C', Buffer.from('S')), SYNC, frontend.message('D', Buffer.from('X\0')), SYNC),
      send(frontend.message('P', Buffer.from('s\0SELECT 1\0')), SYNC, frontend.message('E', Buffer.from('\0')), SYNC),
      send(frontend.message('B', Buffer.from('\0s\0\0')), SYNC, parse('s', select), SYNC, ...run('s', '1'), SYNC),
    ],
    DEALLOCATE: [
      send(parse('s', select), parse('Upper', select), SYNC, query('DEALLOCATE s'), ...run('s', '1'), SYNC),
      send(
        query('DEALLOCATE s'),
        query('DEALLOCATE upper'),
        query('DEALLOCATE PREPARE "Upper"'),
        ...run('Upper', '1'),
        SYNC,
      ),
      send(parse('s', select), SYNC, query('BEGIN'), query('DEALLOCATE S'), query('ROLLBACK'), ...run('s', '1'), SYNC),
      send(parse('s', select), SYNC, query('BEGIN'), query('SELEC'), query('DEALLOCATE s'), query('ROLLBACK')),
      send(...run('s', '1'), SYNC, query('DEALLOCATE s -- a comment'), parse('s', 'SELECT 1'), ...run('s'), SYNC),
    ],
    'DEALLOCATE by extended query': [
      send(
        parse('s', select),
        parse('Üpper', select),
        SYNC,
        parse('', 'DEALLOCATE s'),
        ...run(''),
        SYNC,
        ...run('s', '1'),
        SYNC,
      ),
      send(
        parse('d', 'DEALLOCATE "Üpper"'),
        describe('S', 'd'),
        ...run('d'),
        SYNC,
        ...run('Üpper', '1'),
        SYNC,
        ...run('d'),
        SYNC,
      ),
      send(
        parse('s', select),
        SYNC,
        parse('', 'DEALLOCATE s'),
        ...run(''),
        parse('s', 'SELECT 2'),
        ...run('s'),
        SYNC,
        ...run('s'),
        SYNC,
      ),
      send(
        query('BEGIN'),
        query('SELEC'),
        parse('', 'DEALLOCATE s'),
        ...run(''),
        SYNC,
        query('ROLLBACK'),
        ...run('s'),
        SYNC,
        query('DEALLOCATE d'),
      ),
      send(...run('unknown'), parse('', 'DEALLOCATE s'), ...run(''), SYNC, ...run('s'), SYNC),
    ],
    'DEALLOCATE ALL in a batch': [
      send(parse('s', select), parse('t', select), SYNC),
      send(
        parse('', 'DEALLOCATE ALL'),
        ...run(''),
        parse('s', 'SELECT 3'),
        ...run('s'),
        SYNC,
        ...run('s'),
        SYNC,
        ...run('t', '1'),
        SYNC,
      ),
      send(
        parse('t', select),
        SYNC,
        ...run('unknown'),
        parse('', 'DEALLOCATE ALL'),
        ...run(''),
        SYNC,
        ...run('t', '1'),
        SYNC,
      ),
      send(
        query('BEGIN'),
        query('SELEC'),
        parse('', 'DEALLOCATE ALL'),
        ...run(''),
        SYNC,
        query('ROLLBACK'),
        ...run('t', '1'),
        SYNC,
      ),
    ],
    'DEALLOCATE ALL': [
      send(parse('s', select), SYNC, query('DEALLOCATE ALL'), ...run('s', '1'), SYNC, parse('s', select), SYNC),
      send(parse('', 'DEALLOCATE ALL'), ...run(''), SYNC, ...run('s', '1'), SYNC),
    ],
    'DISCARD ALL': [
      send(
        parse('s', select),
        SYNC,
        query('DISCARD ALL'),
        ...run('s', '1'),
        SYNC,
        parse('s', select),
        ...run('s', '1'),
        SYNC,
      ),
    ],
  };
  for (const [name, script] of Object.entries(scripts)) {
    for (const prepared_statements_cache_size of [500, 1, 0]) {
      test(`${name}, with room for ${prepared_statements_cache_size}`, async () => {
        const pool = { prepared_statements_cache_size };
        await using proxy = await TestProxy.start(cluster, { pool, user: { pool_size: 1 } });
        await assertSame(straightTo(cluster), through(proxy), script);
      });
    }
  }
});
