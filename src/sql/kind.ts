/** The words for a kind of statement, nearly as PostgreSQL's command tags have them. */
import type { Node, SelectStmt } from '@pgsql/types';

/** Kinds whose words do not follow from the name of their node. */
const WORDS: Readonly<Record<string, string>> = {
  AlterDatabaseRefreshCollStmt: 'ALTER DATABASE',
  AlterDatabaseSetStmt: 'ALTER DATABASE',
  AlterEnumStmt: 'ALTER TYPE',
  AlterEventTrigStmt: 'ALTER EVENT TRIGGER',
  AlterExtensionContentsStmt: 'ALTER EXTENSION',
  AlterFdwStmt: 'ALTER FOREIGN DATA WRAPPER',
  AlterForeignServerStmt: 'ALTER SERVER',
  AlterOpFamilyStmt: 'ALTER OPERATOR FAMILY',
  AlterRoleSetStmt: 'ALTER ROLE',
  AlterSeqStmt: 'ALTER SEQUENCE',
  AlterStatsStmt: 'ALTER STATISTICS',
  AlterTableMoveAllStmt: 'ALTER TABLE',
  AlterTableSpaceOptionsStmt: 'ALTER TABLESPACE',
  AlterTSConfigurationStmt: 'ALTER TEXT SEARCH CONFIGURATION',
  AlterTSDictionaryStmt: 'ALTER TEXT SEARCH DICTIONARY',
  CheckPointStmt: 'CHECKPOINT',
  CompositeTypeStmt: 'CREATE TYPE',
  ConstraintsSetStmt: 'SET CONSTRAINTS',
  CreateAmStmt: 'CREATE ACCESS METHOD',
  CreateEnumStmt: 'CREATE TYPE',
  CreateEventTrigStmt: 'CREATE EVENT TRIGGER',
  CreateFdwStmt: 'CREATE FOREIGN DATA WRAPPER',
  CreateForeignServerStmt: 'CREATE SERVER',
  CreateOpClassStmt: 'CREATE OPERATOR CLASS',
  CreateOpFamilyStmt: 'CREATE OPERATOR FAMILY',
  CreatePLangStmt: 'CREATE LANGUAGE',
  CreateRangeStmt: 'CREATE TYPE',
  CreateSeqStmt: 'CREATE SEQUENCE',
  CreateStatsStmt: 'CREATE STATISTICS',
  CreateStmt: 'CREATE TABLE',
  CreateTableSpaceStmt: 'CREATE TABLESPACE',
  CreateTrigStmt: 'CREATE TRIGGER',
  CreatedbStmt: 'CREATE DATABASE',
  DropTableSpaceStmt: 'DROP TABLESPACE',
  DropdbStmt: 'DROP DATABASE',
  IndexStmt: 'CREATE INDEX',
  LockStmt: 'LOCK TABLE',
  RefreshMatViewStmt: 'REFRESH MATERIALIZED VIEW',
  RuleStmt: 'CREATE RULE',
  SecLabelStmt: 'SECURITY LABEL',
  TruncateStmt: 'TRUNCATE TABLE',
  VariableShowStmt: 'SHOW',
  ViewStmt: 'CREATE VIEW',
};

const TRANSACTIONS: Readonly<Record<string, string>> = {
  TRANS_STMT_BEGIN: 'BEGIN',
  TRANS_STMT_START: 'START TRANSACTION',
  TRANS_STMT_COMMIT: 'COMMIT',
  TRANS_STMT_ROLLBACK: 'ROLLBACK',
  TRANS_STMT_SAVEPOINT: 'SAVEPOINT',
  TRANS_STMT_RELEASE: 'RELEASE',
  TRANS_STMT_ROLLBACK_TO: 'ROLLBACK',
  TRANS_STMT_PREPARE: 'PREPARE TRANSACTION',
  TRANS_STMT_COMMIT_PREPARED: 'COMMIT PREPARED',
  TRANS_STMT_ROLLBACK_PREPARED: 'ROLLBACK PREPARED',
};

/** Objects whose words do not follow from their name in the tree. */
const OBJECTS: Readonly<Record<string, string>> = {
  OBJECT_ATTRIBUTE: 'TYPE',
  OBJECT_COLUMN: 'TABLE',
  OBJECT_DOMCONSTRAINT: 'DOMAIN',
  OBJECT_FDW: 'FOREIGN DATA WRAPPER',
  OBJECT_FOREIGN_SERVER: 'SERVER',
  OBJECT_MATVIEW: 'MATERIALIZED VIEW',
  OBJECT_OPCLASS: 'OPERATOR CLASS',
  OBJECT_OPFAMILY: 'OPERATOR FAMILY',
  OBJECT_STATISTIC_EXT: 'STATISTICS',
  OBJECT_TABCONSTRAINT: 'TABLE',
  OBJECT_TSCONFIGURATION: 'TEXT SEARCH CONFIGURATION',
  OBJECT_TSDICTIONARY: 'TEXT SEARCH DICTIONARY',
  OBJECT_TSPARSER: 'TEXT SEARCH PARSER',
  OBJECT_TSTEMPLATE: 'TEXT SEARCH TEMPLATE',
};

const DDL = /^(?:CREATE|ALTER|DROP|IMPORT|SELECT INTO)\b/;

/** The words for the kind of a top-level statement: `SELECT`, `CREATE TABLE AS`, `ROLLBACK PREPARED`. */
export function kindOf(node: Node): string {
  if ('SelectStmt' in node) return makesTable(node.SelectStmt) ? 'SELECT INTO' : 'SELECT';
  if ('TransactionStmt' in node) return TRANSACTIONS[node.TransactionStmt.kind ?? ''] ?? 'BEGIN';
  if ('VariableSetStmt' in node) return node.VariableSetStmt.kind?.startsWith('VAR_RESET') === true ? 'RESET' : 'SET';
  if ('FetchStmt' in node) return node.FetchStmt.ismove === true ? 'MOVE' : 'FETCH';
  if ('ClosePortalStmt' in node)
    return node.ClosePortalStmt.portalname === undefined ? 'CLOSE CURSOR ALL' : 'CLOSE CURSOR';
  if ('DeallocateStmt' in node) return node.DeallocateStmt.name === undefined ? 'DEALLOCATE ALL' : 'DEALLOCATE';
  if ('DiscardStmt' in node) return (node.DiscardStmt.target ?? 'DISCARD_ALL').replace('_', ' ');
  if ('VacuumStmt' in node) return node.VacuumStmt.is_vacuumcmd === true ? 'VACUUM' : 'ANALYZE';
  if ('GrantStmt' in node) return node.GrantStmt.is_grant === true ? 'GRANT' : 'REVOKE';
  if ('GrantRoleStmt' in node) return node.GrantRoleStmt.is_grant === true ? 'GRANT ROLE' : 'REVOKE ROLE';
  return definition(node) ?? statementName(Object.keys(node)[0] ?? '');
}

/** The first SELECT of a UNION has its INTO. */
function makesTable(select: SelectStmt): boolean {
  let first = select;
  while (first.larg !== undefined) first = first.larg;
  return first.intoClause !== undefined;
}

/** CREATE, ALTER and DROP of nodes that serve many kinds of objects. */
function definition(node: Node): string | undefined {
  if ('CreateFunctionStmt' in node)
    return `CREATE ${node.CreateFunctionStmt.is_procedure === true ? 'PROCEDURE' : 'FUNCTION'}`;
  if ('CreateTableAsStmt' in node)
    return `CREATE ${words(node.CreateTableAsStmt.objtype).replace(/^TABLE$/, 'TABLE AS')}`;
  if ('DefineStmt' in node) return `CREATE ${words(node.DefineStmt.kind)}`;
  if ('DropStmt' in node) return `DROP ${words(node.DropStmt.removeType)}`;
  if ('AlterTableStmt' in node) return `ALTER ${words(node.AlterTableStmt.objtype)}`;
  if ('AlterFunctionStmt' in node) return `ALTER ${words(node.AlterFunctionStmt.objtype)}`;
  if ('AlterOwnerStmt' in node) return `ALTER ${words(node.AlterOwnerStmt.objectType)}`;
  if ('AlterObjectSchemaStmt' in node) return `ALTER ${words(node.AlterObjectSchemaStmt.objectType)}`;
  if ('AlterObjectDependsStmt' in node) return `ALTER ${words(node.AlterObjectDependsStmt.objectType)}`;
  if ('RenameStmt' in node) return `ALTER ${words(node.RenameStmt.renameType)}`;
  return undefined;
}

function words(object = 'OBJECT_TABLE'): string {
  return OBJECTS[object] ?? object.slice('OBJECT_'.length).replaceAll('_', ' ');
}

/** Whether statements of this kind change what the catalog says of functions, views and tables. */
export function isDdl(kind: string): boolean {
  return DDL.test(kind);
}

/** The words for a kind of node: `CREATE TABLE AS` for CreateTableAsStmt. */
export function statementName(kind: string): string {
  return (
    WORDS[kind] ??
    kind
      .replace(/Stmt$/, '')
      .replaceAll(/(?<=[a-z])(?=[A-Z])/g, ' ')
      .toUpperCase()
  );
}
