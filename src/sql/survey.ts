/** Walks a parse tree to any depth and notes what keeps it off replicas, and what its session keeps afterwards. */
import type { Node } from '@pgsql/types';
import { isSamplingMethod, judgeFunction } from './functions.ts';
import { EFFECT, type ReasonCode } from './statement.ts';

/** What the walk found. */
export interface Survey {
  /** Why the tree must not run on a replica; undefined when nothing speaks against it. */
  readonly reason: ReasonCode | undefined;
  /** The name that `reason` is about, or ''. */
  readonly about: string;
  /** Bits of {@link EFFECT}. */
  readonly effects: number;
}

/** Any object of a parse tree: a node in its one-key wrapper, the node itself, or a structure inside it. */
type Fields = Readonly<Record<string, unknown>>;

type KindOf<T> = T extends unknown ? keyof T : never;
/** The kinds of PostgreSQL's parse nodes. */
export type NodeKind = KindOf<Node>;

/** Reasons, the one worth telling first. */
const REASONS_IN_ORDER = [
  'select_into',
  'modifying_cte',
  'row_lock',
  'volatile_function',
  'unknown_function',
  'temp_table',
  'unknown_syntax',
] as const satisfies readonly ReasonCode[];

/**
 * The nodes that a read is made of; a kind that is not here, also one of a later PostgreSQL, makes no read. A cast to a
 * user's type is fine although its input function may be the user's: functions that read or write text of a type have
 * no reason to write tables, and enumerations and domains would otherwise never be read on a replica.
 */
const READ_NODES: ReadonlySet<string> = new Set<NodeKind>([
  ...(['SelectStmt', 'ResTarget', 'ColumnRef', 'A_Star', 'CommonTableExpr', 'ParamRef', 'List'] as const),
  ...(['A_Const', 'String', 'Integer', 'Float', 'Boolean', 'BitString', 'TypeCast', 'TypeName'] as const),
  ...(['A_Expr', 'BoolExpr', 'NullTest', 'BooleanTest', 'CaseExpr', 'CaseWhen', 'CoalesceExpr', 'MinMaxExpr'] as const),
  ...([
    'A_ArrayExpr',
    'A_Indirection',
    'A_Indices',
    'RowExpr',
    'SubLink',
    'CollateClause',
    'SQLValueFunction',
  ] as const),
  ...(['FuncCall', 'NamedArgExpr', 'WindowDef', 'SortBy', 'GroupingFunc', 'GroupingSet', 'LockingClause'] as const),
  ...(['RangeVar', 'RangeSubselect', 'RangeFunction', 'RangeTableFunc', 'RangeTableFuncCol', 'ColumnDef'] as const),
  ...(['RangeTableSample', 'JoinExpr', 'XmlExpr', 'XmlSerialize'] as const),
  ...(['JsonValueExpr', 'JsonFormat', 'JsonOutput', 'JsonReturning', 'JsonArgument', 'JsonBehavior'] as const),
  ...(['JsonFuncExpr', 'JsonParseExpr', 'JsonScalarExpr', 'JsonSerializeExpr', 'JsonIsPredicate'] as const),
  ...(['JsonObjectConstructor', 'JsonArrayConstructor', 'JsonArrayQueryConstructor', 'JsonKeyValue'] as const),
  ...(['JsonObjectAgg', 'JsonArrayAgg', 'JsonAggConstructor'] as const),
  ...(['JsonTable', 'JsonTableColumn', 'JsonTablePathSpec'] as const),
]);

/**
 * Surveys everything below `root`. What only the catalog knows is not seen: the functions behind views, operators and
 * casts, and columns `t.f` that are calls f(t) of a user's function.
 */
export function survey(root: object): Survey {
  return new Walk().over(root);
}

/** One walk. Its stack is its own: a tree may be deeper than functions can call each other. */
class Walk {
  #rank: number = REASONS_IN_ORDER.length;
  #about = '';
  #effects = 0;

  over(root: object): Survey {
    const pending: object[] = [root];
    for (let item = pending.pop(); item !== undefined; item = pending.pop()) {
      if (Array.isArray(item)) {
        this.#names(item);
        for (const child of item) if (isFields(child)) pending.push(child);
      } else if (isFields(item)) {
        for (const key in item) {
          const value = item[key];
          if (typeof value === 'string') this.#word(key, value);
          else if (isFields(value)) {
            this.#structure(key, value);
            pending.push(value);
          }
        }
      }
    }
    return { reason: REASONS_IN_ORDER[this.#rank], about: this.#about, effects: this.#effects };
  }

  #note(reason: (typeof REASONS_IN_ORDER)[number], about: string, effects: number): void {
    this.#effects |= effects;
    const rank = REASONS_IN_ORDER.indexOf(reason);
    if (rank >= this.#rank) return;
    this.#rank = rank;
    this.#about = about;
  }

  #word(key: string, value: string): void {
    if (key === 'relpersistence' ? value === 't' : key === 'schemaname' && isTempSchema(value)) this.#temp();
  }

  /** A qualified name of anything: a type, a function, a relation to drop. */
  #names(list: readonly unknown[]): void {
    if (list.length > 1 && isTempSchema(nameOf(list[0]) ?? '')) this.#temp();
  }

  #temp(): void {
    this.#note('temp_table', '', EFFECT.temp);
  }

  #structure(key: string, value: Fields): void {
    switch (key) {
      case 'FuncCall':
      case 'funccall':
        return this.#call(namesOf(value.funcname), value.args);
      case 'A_Indirection':
        return this.#indirection(value);
      case 'ColumnRef':
        return this.#column(namesOf(value.fields));
      case 'A_Expr':
        return this.#operator(value.name);
      case 'SubLink':
        return this.#operator(value.operName);
      case 'SortBy':
        return this.#operator(value.useOp);
      case 'RangeTableSample':
        return this.#samplingMethod(namesOf(value.method));
      case 'intoClause':
        return this.#note('select_into', '', 0);
      case 'lockingClause':
        return this.#note('row_lock', '', 0);
      case 'InsertStmt':
      case 'UpdateStmt':
      case 'DeleteStmt':
      case 'MergeStmt':
        return this.#note('modifying_cte', statementName(key), 0);
      case 'ExecuteStmt':
        return this.#note('unknown_syntax', statementName(key), EFFECT.unknown);
      default:
        if (isKind(key) && !READ_NODES.has(key)) this.#note('unknown_syntax', key, 0);
    }
  }

  #call(name: readonly string[], args?: unknown): void {
    const { nature, effects } = judgeFunction(name);
    const about = name.join('.');
    if (nature === 'unknown') this.#note('unknown_function', about, effects);
    else if (nature === 'volatile') {
      this.#note('volatile_function', about, effects === EFFECT.set && isLocal(args) ? EFFECT.set_local : effects);
    }
  }

  /** `(expression).name` calls the function `name` unless the expression is a row: constants and casts hardly are. */
  #indirection(value: Fields): void {
    const isScalar =
      isFields(value.arg) && ('TypeCast' in value.arg || 'A_Const' in value.arg || 'ParamRef' in value.arg);
    for (const name of namesOf(value.indirection)) {
      if (isScalar || judgeFunction([name]).nature === 'volatile') this.#call([name]);
    }
  }

  /** `t.name` calls the function `name` on a row of t, if t has no such column. */
  #column(fields: readonly string[]): void {
    const name = fields[fields.length - 1];
    if (fields.length > 1 && name !== undefined && judgeFunction([name]).nature === 'volatile') this.#call([name]);
  }

  /** The operators of PostgreSQL do nothing beyond their result; a schema may hold any other, and says so. */
  #operator(name: unknown): void {
    const names = namesOf(name);
    if (names.length > 1 && names[0] !== 'pg_catalog') {
      this.#note('unknown_function', `OPERATOR(${names.join('.')})`, EFFECT.unknown);
    }
  }

  #samplingMethod(method: readonly string[]): void {
    if (!isSamplingMethod(method)) this.#note('unknown_function', method.join('.'), EFFECT.unknown);
  }
}

/** The SQL words of a kind of statement: `CREATE TABLE AS` for CreateTableAsStmt, nearly so for most others. */
export function statementName(kind: string): string {
  return kind
    .replace(/Stmt$/, '')
    .replaceAll(/(?<=[a-z])(?=[A-Z])/g, ' ')
    .toUpperCase();
}

/** Whether the third argument of set_config is the constant `true`: the setting ends with the transaction. */
function isLocal(args: unknown): boolean {
  const third: unknown = Array.isArray(args) ? args[2] : undefined;
  const constant = isFields(third) ? third.A_Const : undefined;
  const value = isFields(constant) ? constant.boolval : undefined;
  return isFields(value) && value.boolval === true;
}

function isTempSchema(name: string): boolean {
  return name === 'pg_temp' || name.startsWith('pg_temp_');
}

/** Kinds of nodes start with a capital, names of fields do not. */
function isKind(key: string): boolean {
  const first = key.charCodeAt(0);
  return first >= 65 && first <= 90;
}

function namesOf(list: unknown): string[] {
  if (!Array.isArray(list)) return [];
  return list.map(nameOf).filter(name => name !== undefined);
}

function nameOf(node: unknown): string | undefined {
  const string = isFields(node) ? node.String : undefined;
  return isFields(string) && typeof string.sval === 'string' ? string.sval : undefined;
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null;
}
