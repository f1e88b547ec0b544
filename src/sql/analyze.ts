/** Turns a parse tree into a Statement: what each kind of statement is for a router and for its session. */
import type { CopyStmt, DoStmt, Node, ParseResult, TransactionStmt, VariableSetStmt } from '@pgsql/types';
import { kindOf } from './kind.ts';
import {
  EFFECT,
  type Objection,
  type ReasonCode,
  reasonWords,
  type Statement,
  type TransactionControl,
} from './statement.ts';
import { Names, survey } from './survey.ts';
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
  /** What keeps it off replicas. */
  readonly objections: readonly Objection[];
  /** Whether these do not count between BEGIN READ ONLY and its end, which the same text must hold. */
  readonly in_read_only?: boolean;
  /** The reason if nothing spoke against it, and what it is about. */
  readonly read_reason: ReasonCode;
  readonly read_about?: string;
  readonly effects: number;
  readonly known_effects: number;
  readonly transaction?: TransactionControl;
  /** COMMIT AND CHAIN begins the next transaction like the one it ends. */
  readonly chain?: boolean;
  readonly plain?: boolean;
  readonly deallocates?: string | undefined;
  readonly executes?: string | undefined;
  readonly prepares?: string | undefined;
}

/** The analysis of a text from its parse tree; `template` is the text without its literals. */
export function analyzeTree(tree: ParseResult, template = ''): Statement {
  const names = new Names();
  const nodes = (tree.stmts ?? []).map(({ stmt }) => stmt);
  const parts = nodes.map(node => partOf(node, names));
  const alone = parts.length === 1 ? parts[0] : undefined;
  const objections = objectionsOf(parts);
  const [told] = objections;
  const read_reason = parts[0]?.read_reason ?? 'empty';
  const reason = told?.reason ?? read_reason;
  const effects = parts.reduce((bits, part) => bits | part.effects, 0);
  const plain = alone?.plain ?? false;
  return {
    template,
    kind: nodes[0] === undefined ? '' : kindOf(nodes[0]),
    read: told === undefined,
    reason,
    detail: reasonWords(reason, told === undefined ? (parts[0]?.read_about ?? '') : told.about),
    count: parts.length,
    transaction: parts.find(part => part.transaction !== undefined)?.transaction ?? 'none',
    effects,
    deallocates: alone?.deallocates,
    executes: alone?.executes,
    prepares: alone?.prepares,
    plain,
    shareable: plain && effects === 0,
    objections,
    read_reason,
    known_effects: parts.reduce((bits, part) => bits | part.known_effects, 0),
    tables: { read: listed(names.read), written: listed(names.written) },
    functions: listed(names.functions),
    unknown: listed(names.unknown),
    operators: listed(names.operators),
    types: listed(names.types),
    attributes: listed(names.attributes),
    mistake: undefined,
    keys: undefined,
  };
}

/** Most of these lists are empty, and statements are kept by the thousand. */
const EMPTY: readonly string[] = [];

function listed(names: ReadonlySet<string>): readonly string[] {
  return names.size === 0 ? EMPTY : [...names];
}

function objectionsOf(parts: readonly Part[]): readonly Objection[] {
  let in_read_only = false;
  const objections: Objection[] = [];
  for (const part of parts) {
    if (!(in_read_only && part.in_read_only === true)) objections.push(...part.objections);
    if (part.transaction === 'begin_read_only') in_read_only = true;
    else if (part.transaction === 'commit' && part.chain !== true) in_read_only = false;
  }
  return objections;
}

function partOf(node: Node | undefined, names: Names): Part {
  if (node === undefined) return objected('unknown_syntax', '', EFFECT.unknown);
  if ('SelectStmt' in node) {
    const found = survey(node, names);
    return { ...found, read_reason: 'select', plain: found.objections[0]?.reason !== 'select_into' };
  }
  if ('InsertStmt' in node || 'UpdateStmt' in node || 'DeleteStmt' in node || 'MergeStmt' in node) {
    const found = survey(node, names);
    const others = found.objections.filter(({ reason }) => OF_CALLS.has(reason));
    return {
      ...found,
      objections: [{ reason: 'writes', about: kindOf(node) }, ...others],
      read_reason: 'select',
      plain: true,
    };
  }
  if ('TransactionStmt' in node) return transaction(node.TransactionStmt);
  if ('ExplainStmt' in node) return { ...explained(partOf(node.ExplainStmt.query, names)), read_reason: 'explain' };
  if ('CopyStmt' in node) return copy(node, node.CopyStmt, names);
  if ('VariableShowStmt' in node) return show(node.VariableShowStmt.name ?? '');
  if ('VariableSetStmt' in node) return setting(node.VariableSetStmt);
  if ('ConstraintsSetStmt' in node) return objected('setting', 'CONSTRAINTS', EFFECT.set_local);
  return sessionStatement(node, names) ?? utility(node, names, utilityEffects(node));
}

/** What is said of a writing statement besides that it writes. */
const OF_CALLS: ReadonlySet<ReasonCode> = new Set<ReasonCode>(['volatile_function', 'unknown_function', 'temp_table']);

function objected(reason: ReasonCode, about: string, effects: number): Part {
  return { objections: [{ reason, about }], read_reason: 'select', effects, known_effects: effects };
}

/** What a statement is inside another one: it is not alone in its text, and controls nothing. */
function explained({ objections, effects, known_effects }: Part): Part {
  return { objections, read_reason: 'select', effects, known_effects };
}

/** The statements that are about prepared statements of SQL. */
function sessionStatement(node: Node, names: Names): Part | undefined {
  if ('PrepareStmt' in node) return { ...utility(node, names, EFFECT.prepare), prepares: node.PrepareStmt.name };
  if ('ExecuteStmt' in node) return { ...utility(node, names, EFFECT.unknown), executes: node.ExecuteStmt.name };
  if ('DeallocateStmt' in node) {
    const { name } = node.DeallocateStmt;
    return { ...utility(node, names, name === undefined ? EFFECT.deallocate_all : 0), deallocates: name };
  }
  return undefined;
}

function utility(node: Node, names: Names, effects: number): Part {
  const found = survey(node, names);
  const kept = dropsAtCommit(node) ? ~EFFECT.temp : ~0;
  return {
    objections: [{ reason: 'utility', about: kindOf(node) }],
    read_reason: 'select',
    effects: effects | (found.effects & kept),
    known_effects: effects | (found.known_effects & kept),
  };
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

function copy(node: Node, { query, relation, filename, is_from, is_program }: CopyStmt, names: Names): Part {
  if (is_from === true || is_program === true || filename !== undefined) {
    return { ...survey(node, names), objections: [{ reason: 'copy', about: '' }], read_reason: 'select' };
  }
  if (query !== undefined) return { ...explained(partOf(query, names)), read_reason: 'copy_to' };
  return { ...survey({ RangeVar: relation }, names), read_reason: 'copy_to' };
}

/** Drivers that look for a primary ask for transaction_read_only, and want to know of writes. */
function show(name: string): Part {
  if (name === 'transaction_read_only') return objected('utility', `SHOW ${name}`, 0);
  return { objections: [], read_reason: 'show', read_about: name, effects: 0, known_effects: 0 };
}

function setting({ name = 'ALL', kind, is_local }: VariableSetStmt): Part {
  const in_transaction = is_local === true || (kind === 'VAR_SET_MULTI' && name.startsWith('TRANSACTION'));
  return objected('setting', name, in_transaction ? EFFECT.set_local : EFFECT.set);
}

function transaction({ kind, options = [], chain = false }: TransactionStmt): Part {
  const part = objected('transaction', '', 0);
  switch (kind) {
    case 'TRANS_STMT_BEGIN':
    case 'TRANS_STMT_START':
      return isForReplica(options)
        ? { ...part, objections: [], read_reason: 'begin_read_only', transaction: 'begin_read_only' }
        : { ...part, transaction: 'begin' };
    case 'TRANS_STMT_COMMIT':
    case 'TRANS_STMT_ROLLBACK':
      return { ...part, in_read_only: true, transaction: 'commit', chain };
    case 'TRANS_STMT_PREPARE':
      return { ...part, transaction: 'commit' };
    case 'TRANS_STMT_SAVEPOINT':
    case 'TRANS_STMT_RELEASE':
    case 'TRANS_STMT_ROLLBACK_TO':
      return { ...part, in_read_only: true, transaction: 'other' };
    default:
      return { ...part, transaction: 'other' };
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
