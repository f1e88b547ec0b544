/** The replies to PgCat's routing commands. */
import type { Hint } from '../routing/hints.ts';
import type { Router } from '../routing/router.ts';
import { commandComplete, READY_IDLE, resultSet } from '../wire/backend.ts';

/** Carries the command out and answers it, ReadyForQuery included; undefined for those that nobody carries out yet. */
export function answerHint(hint: Hint, router: Router): Buffer | undefined {
  router.apply(hint);
  const answer = reply(hint, router);
  return answer && Buffer.concat([answer, READY_IDLE]);
}

function reply(hint: Hint, router: Router): Buffer | undefined {
  switch (hint.command) {
    case 'set_server_role':
      return commandComplete('SET SERVER ROLE');
    case 'set_primary_reads':
      return commandComplete('SET PRIMARY READS');
    case 'show_server_role':
      return resultSet([{ name: 'server role', type: 'text' }], [[router.serverRole]], 'SELECT 1');
    case 'show_primary_reads':
      return resultSet([{ name: 'primary reads', type: 'text' }], [[router.primaryReads ? 'on' : 'off']], 'SELECT 1');
    default:
      return undefined;
  }
}
