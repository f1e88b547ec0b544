/** Turns a parse tree into a Statement: what each kind of statement is for a router and for its session. */
import type { CopyStmt, DoStmt, Node, ParseResult, TransactionStmt, VariableSetStmt } from '@pgsql/types';
import { EFFECT, type ReasonCode, reasonWords, type Statement, type TransactionControl } from './statement.ts';
import { statementName, survey } from './survey.ts';
import { mayLeaveState } from './suspicion.ts';

/** CURSOR_OPT_HOLD of PostgreSQL's parsenodes.h. */
const CURSOR_OPTION_HOLD = 0x20;

/** Everything that a session cleans away. */
const LEFTOVERS =
  EFFECT.set |
  EFFECT.prepare |
  EFFECT.listen |
  EFFECT.temp |
  EFFECT.hold_cursor |
  EFFECT.advisory_lock |
  EFFECT.sequence;

/** One top-level statement. */
interface Part {
  /** `in_read_only`: only between BEGIN READ ONLY and its end, which the same text must hold. */
  readonly read: boolean | 'in_read_only';
  readonly reason: ReasonCode;
  readonly about: string;
  readonly effects: number;
  readonly transaction?: TransactionControl;
  /** COMMIT AND CHAIN begins the next transaction like the one it ends. */
  readonly chain?: boolean;
  readonly plain?: boolean;
  readonly deallocates?: string | undefined;
  readonly executes?: string | undefined;
  readonly prepares?: string | undefined;
}

/** The analysis of a text from its parse tree. */
export function analyzeTree(tree: ParseResult): Statement {
  const parts = (tree.stmts ?? []).map(({ stmt }) => partOf(stmt));
  const alone = parts.length === 1 ? parts[0] : undefined;
  const first = firstNonRead(parts);
  const told = first ?? parts[0];
  const reason = told?.reason ?? 'empty';
  return {
    read: first === undefined,
    reason,
    detail: reasonWords(reason, told?.about ?? ''),
    count: parts.length,
    transaction: parts.find(part => part.transaction !== undefined)?.transaction ?? 'none',
    effects: parts.reduce((effects, part) => effects | part.effects, 0),
    deallocates: alone?.deallocates,
    executes: alone?.executes,
    prepares: alone?.prepares,
    plain: alone?.plain ?? false,
  };
}

function firstNonRead(parts: readonly Part[]): Part | undefined {
  let in_read_only = false;
  for (const part of parts) {
    if (part.read === false || (part.read === 'in_read_only' && !in_read_only)) return part;
    if (part.transaction === 'begin_read_only') in_read_only = true;
    else if (part.transaction === 'commit' && part.chain !== true) in_read_only = false;
  }
  return undefined;
}

function partOf(node: Node | undefined): Part {
  if (node === undefined) return { read: false, reason: 'unknown_syntax', about: '', effects: EFFECT.unknown };
  if ('SelectStmt' in node) {
    const { reason = 'select', about, effects } = survey(node);
    return { read: reason === 'select', reason, about, effects, plain: reason !== 'select_into' };
  }
  if ('InsertStmt' in node || 'UpdateStmt' in node || 'DeleteStmt' in node || 'MergeStmt' in node) {
    return { read: false, reason: 'writes', about: nameOf(node), effects: survey(node).effects, plain: true };
  }
  if ('TransactionStmt' in node) return transaction(node.TransactionStmt);
  if ('ExplainStmt' in node) return explain(partOf(node.ExplainStmt.query));
  if ('CopyStmt' in node) return copy(node, node.CopyStmt);
  if ('VariableShowStmt' in node) return show(node.VariableShowStmt.name ?? '');
  if ('VariableSetStmt' in node) return setting(node.VariableSetStmt);
  if ('ConstraintsSetStmt' in node) {
    return { read: false, reason: 'setting', about: 'CONSTRAINTS', effects: EFFECT.set_local };
  }
  return sessionStatement(node) ?? utility(node, utilityEffects(node));
}

/** The statements that are about prepared statements of SQL. */
function sessionStatement(node: Node): Part | undefined {
  if ('PrepareStmt' in node) return { ...utility(node, EFFECT.prepare), prepares: node.PrepareStmt.name };
  if ('ExecuteStmt' in node) return { ...utility(node, EFFECT.unknown), executes: node.ExecuteStmt.name };
  if ('DeallocateStmt' in node) {
    const { name } = node.DeallocateStmt;
    return { ...utility(node, name === undefined ? EFFECT.deallocate_all : 0), deallocates: name };
  }
  return undefined;
}

function utility(node: Node, effects: number): Part {
  const found = survey(node).effects;
  const kept = dropsAtCommit(node) ? found & ~EFFECT.temp : found;
  return { read: false, reason: 'utility', about: nameOf(node), effects: effects | kept };
}

/** A temporary table that is gone with its transaction leaves nothing behind. */
function dropsAtCommit(node: Node): boolean {
  if ('CreateStmt' in node) return node.CreateStmt.oncommit === 'ONCOMMIT_DROP';
  return 'CreateTableAsStmt' in node && node.CreateTableAsStmt.into?.onCommit === 'ONCOMMIT_DROP';
}

function utilityEffects(node: Node): number {
  if ('CallStmt' in node) return EFFECT.unknown;
  if ('DoStmt' in node) return EFFECT.unknown | blockEffects(node.DoStmt);
  if ('ListenStmt' in node) return EFFECT.listen;
  if ('LoadStmt' in node) return EFFECT.load;
  if ('DiscardStmt' in node) return node.DiscardStmt.target === 'DISCARD_ALL' ? EFFECT.discard_all : 0;
  if ('DeclareCursorStmt' in node) {
    return ((node.DeclareCursorStmt.options ?? 0) & CURSOR_OPTION_HOLD) !== 0 ? EFFECT.hold_cursor : 0;
  }
  return 0;
}

/** A DO block is not parsed: one with any word that leaves something counts as if it left everything. */
function blockEffects({ args = [] }: DoStmt): number {
  const code = args.map(arg => JSON.stringify(arg)).join(' ');
  return mayLeaveState(code) ? LEFTOVERS : 0;
}

function explain(explained: Part): Part {
  const { read, reason, about, effects } = explained;
  return read === true ? { read, reason: 'explain', about: '', effects } : { read: false, reason, about, effects };
}

function copy(node: Node, { query, relation, filename, is_from, is_program }: CopyStmt): Part {
  const { effects } = survey(node);
  if (is_from === true || is_program === true || filename !== undefined) {
    return { read: false, reason: 'copy', about: '', effects };
  }
  if (query === undefined) {
    const { reason = 'copy_to', about } = survey({ relation });
    return { read: reason === 'copy_to', reason, about, effects };
  }
  const copied = partOf(query);
  return copied.read === true
    ? { read: true, reason: 'copy_to', about: '', effects }
    : { read: false, reason: copied.reason, about: copied.about, effects };
}

/** Drivers that look for a primary ask for transaction_read_only, and want to know of writes. */
function show(name: string): Part {
  return name === 'transaction_read_only'
    ? { read: false, reason: 'utility', about: `SHOW ${name}`, effects: 0 }
    : { read: true, reason: 'show', about: name, effects: 0 };
}

function setting({ name = 'ALL', kind, is_local }: VariableSetStmt): Part {
  const in_transaction = is_local === true || (kind === 'VAR_SET_MULTI' && name.startsWith('TRANSACTION'));
  return { read: false, reason: 'setting', about: name, effects: in_transaction ? EFFECT.set_local : EFFECT.set };
}

function transaction({ kind, options = [], chain = false }: TransactionStmt): Part {
  const part = { reason: 'transaction', about: '', effects: 0 } as const;
  switch (kind) {
    case 'TRANS_STMT_BEGIN':
    case 'TRANS_STMT_START':
      return isForReplica(options)
        ? { ...part, read: true, reason: 'begin_read_only', transaction: 'begin_read_only' }
        : { ...part, read: false, transaction: 'begin' };
    case 'TRANS_STMT_COMMIT':
    case 'TRANS_STMT_ROLLBACK':
      return { ...part, read: 'in_read_only', transaction: 'commit', chain };
    case 'TRANS_STMT_PREPARE':
      return { ...part, read: false, transaction: 'commit' };
    case 'TRANS_STMT_SAVEPOINT':
    case 'TRANS_STMT_RELEASE':
    case 'TRANS_STMT_ROLLBACK_TO':
      return { ...part, read: 'in_read_only', transaction: 'other' };
    default:
      return { ...part, read: false, transaction: 'other' };
  }
}

/** Whether a transaction of these modes is READ ONLY, and has none that a standby refuses: READ WRITE, SERIALIZABLE. */
function isForReplica(options: readonly Node[]): boolean {
  let read_only = false;
  for (const option of options) {
    if (!('DefElem' in option)) continue;
    const { defname, arg } = option.DefElem;
    if (arg === undefined || !('A_Const' in arg)) continue;
    if (defname === 'transaction_isolation' && arg.A_Const.sval?.sval === 'serializable') return false;
    if (defname !== 'transaction_read_only') continue;
    if (arg.A_Const.ival?.ival !== 1) return false;
    read_only = true;
  }
  return read_only;
}

function nameOf(node: Node): string {
  return statementName(Object.keys(node)[0] ?? '');
}
