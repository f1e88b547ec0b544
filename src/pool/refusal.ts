/** Why a pool does not serve a claim, and what its client is told when no other does. */
import { type PgError, pgError } from '../errors.ts';
import { addressText } from '../net/address.ts';
import type { Cap } from './caps.ts';
import type { Lease, LeaseSource, Refusal } from './lease.ts';
import { type Failure, isTold } from './opener.ts';
import { lateText, type PoolSettings } from './settings.ts';

/** SQLSTATE of a server that comes up: it has refused nobody in particular. */
const CANNOT_CONNECT_NOW = '57P03';

/** The refusal of a server that took no login. */
export function loginRefusal({ cause, sqlstate }: Failure): Refusal {
  const isItsOwn = isTold(sqlstate) && sqlstate !== CANNOT_CONNECT_NOW;
  return isItsOwn ? { cause, sqlstate, kind: 'server_login_failed' } : { cause };
}

/** The refusal of a pool that has as many waiting clients as it may. */
export function queueRefusal(max_waiting_clients: number): Refusal {
  return {
    cause: `${max_waiting_clients} statements wait already (max_waiting_clients)`,
    kind: 'queue_full',
    busy: true,
  };
}

/** The refusal of a pool in which nobody gave up a connection in time; `full` is the cap that lets it open no more. */
export function busyRefusal(pool: LeaseSource, settings: PoolSettings, full: Cap | undefined): Refusal {
  const capped = full === undefined ? '' : `; ${full.setting} (${full.max}) allows no more`;
  return { cause: `${lateText(pool, settings)}${capped}`, busy: full !== undefined };
}

/** What the client of a claim is told whom no server of the `database` serves. */
export function exhaustedError({ tried, role, shard, refusal }: Lease, database: string): PgError {
  if (tried.length === 0) {
    const server = role === 'any' ? 'server' : role;
    return pgError('checkout_failed', `AllServersDown: no ${server} is configured in shard ${shard} of ${database}`);
  }
  const { cause, sqlstate, kind = 'checkout_failed' } = refusal;
  const busy = refusal.busy || tried.every(pool => pool.connections.size > 0);
  const names = tried.map(({ address }) => `${address.name} (${addressText(address.host, address.port)})`).join(', ');
  const error = pgError(kind, `${busy ? 'pool exhausted' : 'AllServersDown'}: ${names}: ${cause}`);
  if (sqlstate !== undefined) error.sqlstate = sqlstate;
  return error;
}
