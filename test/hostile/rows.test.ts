/** The security history of poolers, row by row: where the test is that tries the same, or why there is none. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const CLIENTS = 'clients.test.ts';
const SERVERS = 'servers.test.ts';
const LOGINS = 'logins.test.ts';

/** What went wrong, where, and the files whose tests have its name. */
const ROWS: Readonly<Record<string, readonly string[]>> = {
  // pgbouncer: a database's name was too long, and the process ended.
  'CVE-2012-4575': [CLIENTS, LOGINS],
  // pgbouncer: a password before the startup packet was used without a user.
  'CVE-2015-4054': [CLIENTS],
  // pgbouncer: an unknown user could log in as auth_user.
  'CVE-2015-6817': [CLIENTS, LOGINS],
  // pgbouncer and odyssey: bytes in the clear counted as said inside TLS; so in PostgreSQL and libpq, CVE-2021-23214 and 23222.
  'CVE-2021-3935': [LOGINS],
  'CVE-2021-43766': [LOGINS],
  'CVE-2021-43767': [SERVERS],
  'CVE-2021-23214': [LOGINS],
  'CVE-2021-23222': [SERVERS],
  // odyssey: the name of a user was put into the text of auth_query.
  'no CVE, odyssey': [LOGINS],
  // pgbouncer: auth_query did not look at VALID UNTIL.
  'CVE-2025-2291': [LOGINS],
  // pgbouncer: the connection of auth_query had the search_path of the client.
  'CVE-2025-12819': [LOGINS],
  // pgbouncer: an integer overflowed in SCRAM messages and packets.
  'CVE-2026-6664': [CLIENTS, SERVERS],
  // pgbouncer and odyssey: a long nonce was written over the stack.
  'CVE-2026-6665': [SERVERS],
  '140a9a77 of odyssey': [CLIENTS, SERVERS],
  // pgbouncer: an error of a server had no SQLSTATE.
  'CVE-2026-6666': [SERVERS],
  // pgbouncer: the stats user could kill clients.
  'CVE-2026-6667': [LOGINS],
  // pgbouncer: a buffer grew without end before the login.
  'CVE-2026-6668': [CLIENTS, SERVERS],
  // pgbouncer, and pgjdbc: a server could ask for any number of SCRAM iterations.
  'CVE-2026-6669': [SERVERS],
  'CVE-2026-42198': [SERVERS],
  // pgbouncer: client-final-message lacked an attribute.
  'CVE-2026-19888': [CLIENTS],
  // pgbouncer: a second StartupMessage during SCRAM changed the user.
  'CVE-2026-107350': [CLIENTS],
  // pgbouncer: an option without a name was parsed for ever.
  'CVE-2026-107349': [CLIENTS],
  // pgbouncer: a length was beyond 2^31.
  'CVE-2026-107348': [CLIENTS, SERVERS],
  // pgjdbc: channel binding that was asked for was not insisted on.
  'CVE-2025-49146': [SERVERS],
  // PostgreSQL: requests for encryption followed each other without end.
  'CVE-2026-6479': [CLIENTS, LOGINS],
  // libpq: an error in place of the answer to a request for encryption was passed on.
  'CVE-2024-10977': [SERVERS],
  // CVE-2025-46801 of pgpool has no test: nothing but "authentication bypass" is known of it, so nobody can try it.
};

for (const [row, files] of Object.entries(ROWS)) {
  test(`${row} is tried in ${files.join(' and ')}`, () => {
    for (const file of files) {
      const names = [...readFileSync(new URL(file, import.meta.url), 'utf8').matchAll(/^ *test\((.*)$/gm)];
      assert.ok(
        names.some(([, name]) => name?.includes(row)),
        `no test of ${file} has ${row} in its name`,
      );
    }
  });
}
