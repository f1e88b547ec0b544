/** Walks a parse tree to any depth and notes what keeps it off replicas, and what its session keeps afterwards. */
import type { Node } from '@pgsql/types';
import { isOperator, isSamplingMethod, judgeFunction } from './functions.ts';
import { statementName } from './kind.ts';
import { EFFECT, type Objection, qualifiedName, type ReasonCode } from './statement.ts';

/** What the walk over one tree found. */
export interface Survey {
  /** What keeps the tree off replicas, the gravest first. */
  readonly objections: readonly Objection[];
  /** Bits of {@link EFFECT}. */
  readonly effects: number;
  /** Those that do not come of functions which only the catalog knows. */
  readonly known_effects: number;
}

/** The names in all trees of a text; see the fields of Statement. */
export class Names {
  readonly read = new Set<string>();
  readonly written = new Set<string>();
  readonly functions = new Set<string>();
  readonly unknown = new Set<string>();
  readonly operators = new Set<string>();
  readonly types = new Set<string>();
  readonly attributes = new Set<string>();
}

/** The WITH queries that a table's name may mean, the innermost first. */
interface Scope {
  readonly name: string;
  readonly outer: Scope | undefined;
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

/** Fields that hold the table a statement works on, without a node around it. */
const TARGETS: ReadonlySet<string> = new Set(['relation', 'rel', 'view', 'sequence', 'table']);

/** Objects that DROP takes away and tables' names mean. */
const DROPPED_TABLES = /^OBJECT_(TABLE|VIEW|MATVIEW|FOREIGN_TABLE|SEQUENCE)$/;

/**
 * Surveys everything below `root`, and adds its names to `names`. What only the catalog knows is judged from them: the
 * functions behind views, operators and casts, and columns `t.f` that are calls f(t) of a user's function.
 */
export function survey(root: object, names: Names): Survey {
  return new Walk(names).over(root);
}

/** One walk. Its stack is its own: a tree may be deeper than functions can call each other. */
class Walk {
  readonly #names: Names;
  readonly #found = new Map<string, Objection & { readonly rank: number }>();
  readonly #pending: object[] = [];
  readonly #scopes: (Scope | undefined)[] = [];
  #effects = 0;
  #known_effects = 0;

  constructor(names: Names) {
    this.#names = names;
  }

  over(root: object): Survey {
    this.#push(root, undefined);
    for (let item = this.#pending.pop(); item !== undefined; item = this.#pending.pop()) {
      const scope = this.#scopes.pop();
      if (Array.isArray(item)) {
        this.#list(item);
        for (const child of item) if (isFields(child)) this.#push(child, scope);
      } else if (isFields(item)) this.#fields(item, scope);
    }
    const objections = [...this.#found.values()]
      .sort((one, other) => one.rank - other.rank)
      .map(({ reason, about }) => ({ reason, about }));
    return { objections, effects: this.#effects, known_effects: this.#known_effects };
  }

  #push(item: object, scope: Scope | undefined): void {
    this.#pending.push(item);
    this.#scopes.push(scope);
  }

  #fields(item: Fields, outer: Scope | undefined): void {
    const scope = isFields(item.withClause) ? this.#withQueries(item.withClause, outer) : outer;
    for (const key in item) {
      const value = item[key];
      if (typeof value === 'string') this.#word(key, value);
      else if (isFields(value)) {
        this.#structure(key, value, scope);
        if (key !== 'withClause' && key !== 'lockingClause' && key !== 'TruncateStmt') this.#push(value, scope);
      }
    }
  }

  /** Each WITH query sees those before it, with RECURSIVE all of them; the statement sees all. */
  #withQueries({ ctes, recursive }: Fields, outer: Scope | undefined): Scope | undefined {
    const queries: unknown[] = Array.isArray(ctes) ? ctes : [];
    const named = queries.map(query => {
      const expression = isFields(query) ? query.CommonTableExpr : undefined;
      return isFields(expression) && typeof expression.ctename === 'string' ? expression.ctename : '';
    });
    let scope = outer;
    const before = named.map(name => {
      const seen = scope;
      scope = { name, outer: scope };
      return seen;
    });
    for (const [at, query] of queries.entries()) {
      if (isFields(query)) this.#push(query, recursive === true ? scope : before[at]);
    }
    return scope;
  }

  #note(reason: (typeof REASONS_IN_ORDER)[number], about: string, effects: number): void {
    this.#effects |= effects;
    if (reason !== 'unknown_function') this.#known_effects |= effects;
    const key = `${reason} ${about}`;
    if (!this.#found.has(key)) this.#found.set(key, { reason, about, rank: REASONS_IN_ORDER.indexOf(reason) });
  }

  #word(key: string, value: string): void {
    if (key === 'relpersistence' ? value === 't' : key === 'schemaname' && isTempSchema(value)) this.#temp();
  }

  /** A qualified name of anything: a type, a function, a relation to drop. */
  #list(list: readonly unknown[]): void {
    if (list.length > 1 && isTempSchema(nameOf(list[0]) ?? '')) this.#temp();
  }

  #temp(): void {
    this.#note('temp_table', '', EFFECT.temp);
  }

  #structure(key: string, value: Fields, scope: Scope | undefined): void {
    switch (key) {
      case 'FuncCall':
      case 'funccall':
        return this.#call(namesOf(value.funcname), value.args);
      case 'RangeVar':
        return this.#table(value, this.#names.read, scope);
      case 'A_Indirection':
        return this.#indirection(value);
      case 'ColumnRef':
        return this.#column(value.fields);
      case 'TypeName':
      case 'typeName':
        return this.#type(namesOf(value.names));
      case 'RangeTableSample':
        return this.#samplingMethod(namesOf(value.method));
      case 'intoClause':
        return this.#note('select_into', '', 0);
      case 'lockingClause':
        return this.#note('row_lock', '', 0);
      case 'TruncateStmt':
        return this.#tables(value.relations);
      case 'DropStmt':
        return this.#dropped(value);
      case 'InsertStmt':
      case 'UpdateStmt':
      case 'DeleteStmt':
      case 'MergeStmt':
        return this.#note('modifying_cte', statementName(key), 0);
      case 'ExecuteStmt':
        return this.#note('unknown_syntax', statementName(key), EFFECT.unknown);
      default:
        if (TARGETS.has(key)) this.#table(value, this.#names.written, undefined);
        else if (!this.#operation(key, value) && isKind(key) && !READ_NODES.has(key)) {
          this.#note('unknown_syntax', key, 0);
        }
    }
  }

  #table(value: Fields, tables: Set<string>, scope: Scope | undefined): void {
    const { schemaname, relname } = value;
    if (typeof relname !== 'string') return;
    if (typeof schemaname === 'string') tables.add(qualifiedName([schemaname, relname]));
    else if (!isInScope(relname, scope)) tables.add(qualifiedName([relname]));
  }

  #tables(relations: unknown): void {
    for (const relation of Array.isArray(relations) ? relations : []) {
      const table: unknown = isFields(relation) ? relation.RangeVar : undefined;
      if (!isFields(table)) continue;
      this.#table(table, this.#names.written, undefined);
      if (typeof table.schemaname === 'string') this.#word('schemaname', table.schemaname);
    }
  }

  #dropped({ removeType, objects }: Fields): void {
    if (typeof removeType !== 'string' || !DROPPED_TABLES.test(removeType)) return;
    for (const object of Array.isArray(objects) ? objects : []) {
      const list: unknown = isFields(object) ? object.List : undefined;
      const parts = isFields(list) ? namesOf(list.items) : [];
      if (parts.length > 0) this.#names.written.add(qualifiedName(parts.slice(-2)));
    }
  }

  #call(name: readonly string[], args?: unknown): void {
    const { nature, effects } = judgeFunction(name);
    const about = qualifiedName(name);
    this.#names.functions.add(about);
    if (nature === 'unknown') this.#unknown(about, effects);
    else if (nature === 'volatile') {
      this.#note('volatile_function', about, effects === EFFECT.set && isLocal(args) ? EFFECT.set_local : effects);
    }
  }

  #unknown(name: string, effects: number): void {
    this.#names.unknown.add(name);
    this.#note('unknown_function', name, effects);
  }

  /** `(expression).name` calls the function `name` unless the expression is a row: constants and casts hardly are. */
  #indirection(value: Fields): void {
    const isScalar =
      isFields(value.arg) && ('TypeCast' in value.arg || 'A_Const' in value.arg || 'ParamRef' in value.arg);
    for (const name of namesOf(value.indirection)) {
      this.#names.attributes.add(name);
      if (isScalar || judgeFunction([name]).nature === 'volatile') this.#call([name]);
    }
  }

  /** `t.name` calls the function `name` on a row of t, if t has no such column. */
  #column(fields: unknown): void {
    const name = Array.isArray(fields) && fields.length > 1 ? nameOf(fields[fields.length - 1]) : undefined;
    if (name === undefined) return;
    this.#names.attributes.add(name);
    if (judgeFunction([name]).nature === 'volatile') this.#call([name]);
  }

  #type(name: readonly string[]): void {
    if (name.length > 0) this.#names.types.add(qualifiedName(name));
  }

  /** Whether this is a structure with operators in it, written or meant. */
  #operation(key: string, value: Fields): boolean {
    switch (key) {
      case 'A_Expr':
        if (String(value.kind).includes('BETWEEN')) for (const name of ['<', '>', '<=', '>=']) this.#operator([name]);
        else this.#operator(namesOf(value.name));
        return true;
      case 'SubLink':
        this.#operator(value.operName === undefined ? ['='] : namesOf(value.operName));
        return true;
      case 'SortBy':
        if (value.useOp !== undefined) this.#operator(namesOf(value.useOp));
        return true;
      case 'JoinExpr':
        if (value.usingClause !== undefined || value.isNatural === true) this.#operator(['=']);
        return true;
      case 'CaseExpr':
        if (value.arg !== undefined) this.#operator(['=']);
        return true;
      default:
        return false;
    }
  }

  /** The operators of PostgreSQL do nothing beyond their result; what others do the catalog knows. */
  #operator(name: readonly string[]): void {
    const written = qualifiedName(name);
    this.#names.operators.add(written);
    if (!isOperator(name)) this.#note('unknown_function', `OPERATOR(${written})`, EFFECT.unknown);
  }

  #samplingMethod(method: readonly string[]): void {
    if (isSamplingMethod(method)) return;
    const name = qualifiedName(method);
    this.#names.functions.add(name);
    this.#unknown(name, EFFECT.unknown);
  }
}

function isInScope(name: string, scope: Scope | undefined): boolean {
  for (let at = scope; at !== undefined; at = at.outer) if (at.name === name) return true;
  return false;
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
