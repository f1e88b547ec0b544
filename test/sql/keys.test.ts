/** The shards of statements: a corpus with what must be said of each, and what is told to people. */
import assert from 'node:assert/strict';
import { before, suite, test } from 'node:test';
import { Answers } from './answers.ts';
import { CORPUS, TABLES, VALUES } from './shardkeys.ts';

suite('sharding keys', () => {
  let answers: Answers;
  before(async () => {
    answers = await Answers.create({ key: 'data.id', tables: TABLES });
  });

  for (const { key, kind, statements } of CORPUS) {
    test(`${key}: ${statements.length} statements are answered ${kind}`, () => {
      const own = answers.with({ key, tables: TABLES });
      const five = own.sharder.shardOfText('5');
      const wrong = statements.flatMap(sql => {
        const answer = own.answer(sql, VALUES);
        const right = answer.kind === kind && (answer.kind !== 'one' || answer.shard === five);
        return right ? [] : [`${sql}\n    ${JSON.stringify(answer)}`];
      });
      assert.equal(wrong.length, 0, wrong.join('\n'));
    });
  }
});
