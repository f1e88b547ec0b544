/** Which server a pool stands for, and how the admin database calls it. */
export interface PoolAddress {
  /** `<database>_shard_<n>_primary` or `<database>_shard_<n>_replica_<k>`, as in PgCat. */
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly role: 'primary' | 'replica';
  readonly shard: number;
  /** Position in the shard's list of servers. */
  readonly index: number;
  /** The database's name on the server. */
  readonly database: string;
}
