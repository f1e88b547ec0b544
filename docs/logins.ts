/** The section about logins of docs/CONFIG.md. */

/** A role that may ask for passwords and for nothing else; the statements are separated by blank lines. */
export const ASKER_SQL = `CREATE ROLE pglynx_auth LOGIN PASSWORD 'change me';

CREATE FUNCTION public.pglynx_password(wanted text) RETURNS TABLE (name text, password text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS
$$ SELECT rolname::text, rolpassword FROM pg_authid
   WHERE rolname = wanted AND rolcanlogin AND (rolvaliduntil IS NULL OR rolvaliduntil > now()) $$;

REVOKE ALL ON FUNCTION public.pglynx_password FROM PUBLIC;

GRANT EXECUTE ON FUNCTION public.pglynx_password TO pglynx_auth;`;

/** The query for it. */
export const ASKER_QUERY = 'SELECT name, password FROM public.pglynx_password($1)';

export const LOGINS = `## Logins

**Passwords that stay on the servers.** A user without a \`password\` in the file logs in with the one that a server keeps, which \`auth_query\`
asks for. This makes a role that may ask and do nothing else; PostgreSQL itself looks at \`VALID UNTIL\` only when it is logged in to, so
the function does:

\`\`\`sql
${ASKER_SQL}
\`\`\`

\`\`\`toml
[general]
auth_query = "${ASKER_QUERY}"
auth_query_user = "pglynx_auth"
auth_query_password = "change me"

[pools.shop.users."*"]     # everybody whom the servers of this pool know
pool_size = 10

[pools."*".users."*"]      # and every other database
pool_size = 5
[pools."*".shards.0]
database = "*"
servers = [["127.0.0.1", 5432, "primary"]]
\`\`\`

- The function has to be in the database where \`auth_query\` runs (\`auth_query_database\`). The name is a bound parameter.
- What is fetched counts for \`auth_query_ttl\`. A password that has changed meanwhile is fetched when a login fails; with md5 that login
  passes, with SCRAM the next one, for the exchange cannot begin anew.
- With a SCRAM verifier, fetched or in the file, pglynx logs in to servers with what the client has proved. All servers of the pool must keep
  the same verifier: replicas do; for shards copy \`rolpassword\` with \`ALTER ROLE ... PASSWORD 'SCRAM-SHA-256$...'\`. Before the first
  such login nobody can open a connection, so \`min_pool_size\` begins with it. \`server_password\` stands above all that.
- With an md5 hash servers that ask for md5 can be logged in to.
- The log says why a login has failed and what was wrong with an answer of \`auth_query\`; the client is told the same in all cases.

**\`auth_hba_file\`** has PostgreSQL's format. Not supported, and told with the number of the line: roles (\`+name\`), other files (\`@name\`,
\`include\`), host names, regular expressions, \`samerole\`, \`map\`, and the methods that need another service or send the password as it is.
A reload reads it again.

**Failed logins** are counted for each user from each address, and for each address (an IPv6 network of 64 bits is one). Clients that
come through another proxy all have its address: set \`login_failure_limit\` to 0 there if one of them must not keep out the others.
`;
