/** Random queries about a few tables with small whole numbers in them: every way to nest, join and compare. */
import type fc from 'fast-check';

/** Tables and their columns; `k` is in some of them and may be NULL. */
export const QUERY_TABLES: Readonly<Record<string, readonly string[]>> = {
  data: ['id', 'x'],
  orders: ['id', 'x'],
  notes: ['id', 'x'],
  plain: ['x', 'y'],
};

/** A source in a FROM list. */
interface Known {
  readonly alias: string;
  readonly columns: readonly string[];
}

/** What can be named: the sources of each query around, the innermost last. */
type Sight = readonly (readonly Known[])[];

interface Query {
  readonly sql: string;
  readonly columns: readonly string[];
}

/** Draws one statement at a time. */
export class QueryMaker {
  readonly #draw: fc.GeneratorValue;
  readonly #number: fc.Arbitrary<number>;
  /** The key that most comparisons are with, so that many statements stay on one shard. */
  readonly #key: number;
  #ctes: Known[] = [];
  #names = 0;
  /** Sources that may still be added: joins of many take long. */
  #room = 6;

  constructor(draw: fc.GeneratorValue, number: fc.Arbitrary<number>) {
    this.#draw = draw;
    this.#number = number;
    this.#key = this.#upTo(6);
  }

  statement(): string {
    const withs = this.#chance(3) ? this.#with() : '';
    const kind = this.#upTo(9);
    if (kind < 7) return withs + this.#query([], 3).sql;
    const table = this.#pick(['data', 'data', 'orders', 'notes']);
    const target: Known = { alias: 't', columns: ['id', 'x'] };
    if (kind === 7) {
      const others = this.#chance(2) ? this.#sources([], 1) : { sql: '', known: [] };
      const sight: Sight = [[target, ...others.known]];
      const from = others.sql === '' ? '' : ` FROM ${others.sql}`;
      const set = this.#chance(4) ? `(SELECT max(m.x) FROM ${this.#source([[target]], 1, 'm')})` : 't.x + 10';
      return `${withs}UPDATE ${table} t SET x = ${set}${from} WHERE ${this.#conditions(sight, 2)}`;
    }
    if (kind === 8) {
      const others = this.#chance(2) ? this.#sources([], 1) : { sql: '', known: [] };
      const using = others.sql === '' ? '' : ` USING ${others.sql}`;
      return `${withs}DELETE FROM ${table} t${using} WHERE ${this.#conditions([[target, ...others.known]], 2)}`;
    }
    if (this.#chance(2)) {
      const source = this.#query([], 2);
      return `${withs}INSERT INTO ${table} (id, x) SELECT q.${this.#pick(source.columns)}, 50 FROM (${source.sql}) q`;
    }
    return withs + this.#merge(table, target);
  }

  #merge(table: string, target: Known): string {
    const source = this.#query([], 1);
    const known: Known = { alias: 's', columns: source.columns };
    const on = this.#conditions([[target, known]], 1);
    const actions = [
      'WHEN MATCHED THEN UPDATE SET x = t.x + 10',
      'WHEN MATCHED THEN DELETE',
      `WHEN NOT MATCHED THEN INSERT (x, id) VALUES (60, s.${this.#pick(source.columns)})`,
      `WHEN NOT MATCHED THEN INSERT (id) VALUES (${this.#value()})`,
      'WHEN NOT MATCHED BY SOURCE THEN DELETE',
    ].filter(() => this.#chance(2));
    return `MERGE INTO ${table} t USING (${source.sql}) s ON ${on} ${actions.join(' ') || 'WHEN MATCHED THEN DELETE'}`;
  }

  #with(): string {
    if (this.#chance(6)) return this.#recursive();
    const queries = Array.from({ length: 1 + this.#upTo(1) }, () => {
      const { sql, columns } = this.#query([], 2);
      const alias = this.#name('w');
      const text = `${alias}${this.#chance(3) ? `(${columns.join(', ')})` : ''} AS (${sql})`;
      this.#ctes.push({ alias, columns });
      return text;
    });
    return `WITH ${queries.join(', ')} `;
  }

  #recursive(): string {
    const base = this.#query([], 1);
    const alias = this.#name('r');
    const step = { alias: 's', columns: ['id', 'x'] };
    const self = { alias, columns: base.columns };
    const table = this.#pick(['data', 'orders', 'plain']);
    const columns = QUERY_TABLES[table];
    const on = this.#chance(2)
      ? `s.${columns[0]} = ${alias}.${this.#pick(base.columns)}`
      : this.#conditions([[{ ...step, columns }, self]], 1);
    const list = base.columns.map(
      (_, i) => `${this.#chance(3) ? alias : 's'}.${i === 0 ? columns[0] : this.#pick(columns)}`,
    );
    const safe = list.map((item, i) => (item.startsWith(`${alias}.`) ? `${alias}.${base.columns[i]}` : item));
    this.#ctes.push(self);
    return `WITH RECURSIVE ${alias} AS ((${base.sql}) UNION SELECT ${safe.join(', ')} FROM ${table} s, ${alias} WHERE ${on}) `;
  }

  #query(sight: Sight, depth: number): Query {
    if (depth > 1 && this.#chance(7)) return this.#united(sight, depth);
    const { sql: from, known } = this.#sources(sight, depth);
    const inner: Sight = [...sight, known];
    const where = this.#chance(8) ? '' : ` WHERE ${this.#conditions(inner, depth)}`;
    const outputs = this.#outputs(known, inner, depth);
    const columns = outputs.map(output => output.name);
    const list = outputs.map(({ sql, name }) => `${sql} AS ${name}`).join(', ');
    switch (this.#upTo(11)) {
      case 0:
        return { sql: `SELECT DISTINCT ${list} FROM ${from}${where}`, columns };
      case 1: {
        const by = this.#column(known);
        if (by === undefined) break;
        const sql = `SELECT ${by} AS id, count(*)::int AS x FROM ${from}${where} GROUP BY ${by}`;
        return { sql: this.#chance(3) ? `${sql} HAVING ${by} = ${this.#value()}` : sql, columns: ['id', 'x'] };
      }
      case 2: {
        const column = this.#column(known) ?? '1';
        return { sql: `SELECT max(${column}) AS id, count(*)::int AS x FROM ${from}${where}`, columns: ['id', 'x'] };
      }
      case 3: {
        const order = outputs.map((_, i) => i + 1).join(', ');
        return { sql: `SELECT ${list} FROM ${from}${where} ORDER BY ${order} LIMIT ${1 + this.#upTo(2)}`, columns };
      }
      case 4: {
        const order = this.#column(known) ?? '1';
        return {
          sql: `SELECT ${list}, (rank() OVER (ORDER BY ${order}))::int AS r FROM ${from}${where}`,
          columns: [...columns, 'r'],
        };
      }
      case 5: {
        const [only] = known;
        if (known.length === 1) return { sql: `SELECT * FROM ${from}${where}`, columns: only.columns };
        return { sql: `SELECT ${only.alias}.* FROM ${from}${where}`, columns: only.columns };
      }
    }
    return { sql: `SELECT ${list} FROM ${from}${where}`, columns };
  }

  #united(sight: Sight, depth: number): Query {
    const sides = [1, 2].map(() => this.#query(sight, depth - 1));
    const width = Math.min(...sides.map(side => side.columns.length));
    const columns = sides[0].columns.slice(0, width);
    const arms = sides.map(side => {
      const alias = this.#name('u');
      return `SELECT ${side.columns.slice(0, width).map(column => `${alias}.${column}`)} FROM (${side.sql}) ${alias}`;
    });
    const word = this.#pick(['UNION', 'UNION ALL', 'EXCEPT', 'INTERSECT']);
    return { sql: arms.join(` ${word} `), columns };
  }

  #outputs(known: readonly Known[], sight: Sight, depth: number): { readonly sql: string; readonly name: string }[] {
    const id = this.#column(known, 'id');
    const x = this.#column(known, 'x');
    const result = [
      { sql: id ?? this.#value(), name: 'id' },
      { sql: x ?? '1', name: 'x' },
    ];
    if (this.#chance(5)) result.push({ sql: this.#value(), name: 'y' });
    if (depth > 1 && this.#chance(6)) {
      result.push({ sql: `(SELECT count(*)::int FROM ${this.#source(sight, 1, 'c')})`, name: 'z' });
    }
    if (this.#chance(8)) result.push({ sql: `${x ?? '1'} + 1`, name: 'e' });
    return result;
  }

  /** A FROM list. */
  #sources(sight: Sight, depth: number): { readonly sql: string; readonly known: readonly Known[] } {
    const first = this.#item(sight, depth);
    let { sql } = first;
    const known = [...first.known];
    /** Brackets hold a join, and no list. */
    let shape: 'item' | 'join' | 'list' = 'item';
    while (this.#room > 0 && this.#chance(2)) {
      const is_lateral = this.#chance(4);
      const next = is_lateral ? this.#lateral([...sight, known], depth) : this.#item(sight, depth);
      const all = [...known, ...next.known];
      const left = this.#column(known, 'id');
      const right = this.#column(next.known, 'id');
      const before = shape === 'join' && this.#chance(2) ? `(${sql})` : sql;
      const on =
        left !== undefined && right !== undefined && this.#chance(2)
          ? `${left} = ${right}`
          : this.#conditions([...sight, all], 1);
      const kind = shape === 'list' ? 0 : this.#upTo(7);
      if (kind === 0) {
        sql = `${sql}, ${next.sql}`;
        shape = 'list';
      } else {
        if (kind === 1) sql = `${before} CROSS JOIN ${next.sql}`;
        else if (kind < 4) sql = `${before} JOIN ${next.sql} ON ${on}`;
        else if (kind === 4 || is_lateral) sql = `${before} LEFT JOIN ${next.sql} ON ${on}`;
        else if (kind === 5) sql = `${before} RIGHT JOIN ${next.sql} ON ${on}`;
        else if (left === undefined || right === undefined) sql = `${before} CROSS JOIN ${next.sql}`;
        else if (kind === 6) sql = `${before} FULL JOIN ${next.sql} ON ${left} = ${right}`;
        else if (shape === 'item')
          sql = `${before} ${this.#pick(['', 'LEFT', 'RIGHT', 'FULL'])} JOIN ${next.sql} USING (id)`;
        else sql = `${before} JOIN ${next.sql} ON ${left} = ${right}`;
        shape = 'join';
      }
      known.push(...next.known);
    }
    return { sql, known };
  }

  #item(sight: Sight, depth: number): { readonly sql: string; readonly known: readonly Known[] } {
    this.#room--;
    const alias = this.#name('a');
    const [cte] = this.#ctes.length > 0 && this.#chance(2) ? [this.#pick(this.#ctes)] : [];
    if (cte !== undefined) return { sql: `${cte.alias} ${alias}`, known: [{ alias, columns: cte.columns }] };
    if (depth > 1 && this.#chance(4)) {
      const { sql, columns } = this.#query(sight.slice(0, -1).length === 0 ? [] : sight.slice(0, -1), depth - 1);
      return { sql: `(${sql}) ${alias}`, known: [{ alias, columns }] };
    }
    if (this.#chance(8)) {
      return {
        sql: `(VALUES (${this.#value()}, 1), (${this.#value()}, 2)) ${alias}(id, x)`,
        known: [{ alias, columns: ['id', 'x'] }],
      };
    }
    const table = this.#pick(['data', 'data', 'data', 'orders', 'orders', 'notes', 'plain']);
    return { sql: `${table} ${alias}`, known: [{ alias, columns: QUERY_TABLES[table] }] };
  }

  #lateral(sight: Sight, depth: number): { readonly sql: string; readonly known: readonly Known[] } {
    if (depth < 2) return this.#item([], 1);
    const alias = this.#name('l');
    const { sql, columns } = this.#query(sight, 1);
    return { sql: `LATERAL (${sql}) ${alias}`, known: [{ alias, columns }] };
  }

  /** A table for an inner select, and a condition on it. */
  #source(sight: Sight, depth: number, alias: string): string {
    const table = this.#pick(['data', 'orders', 'plain']);
    const known = { alias, columns: QUERY_TABLES[table] };
    return `${table} ${alias} WHERE ${this.#conditions([...sight, [known]], depth)}`;
  }

  #conditions(sight: Sight, depth: number): string {
    const parts = Array.from({ length: 1 + this.#upTo(2) }, () => this.#condition(sight, depth));
    const [first] = parts;
    if (parts.length === 1) return first;
    return parts.map(part => (part.includes(' OR ') ? `(${part})` : part)).join(this.#chance(5) ? ' OR ' : ' AND ');
  }

  #condition(sight: Sight, depth: number): string {
    const local = sight.at(-1) ?? [];
    const column = this.#column(local, this.#chance(5) ? undefined : 'id') ?? '1';
    const bare = local.length === 1 && sight.length === 1 && this.#chance(2) ? column.replace(/^\w+\./, '') : column;
    const around = sight.length > 1 ? this.#column(sight.flat(), 'id') : undefined;
    const other =
      (this.#chance(2) ? around : undefined) ?? this.#column(local, this.#chance(6) ? undefined : 'id') ?? '1';
    const value = this.#value();
    switch (this.#upTo(depth > 1 ? 19 : 13)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return `${bare} = ${value}`;
      case 4:
        return `${value} = ${column}`;
      case 5:
        return `${bare} IN (${value}, ${this.#value()})`;
      case 6:
      case 7:
      case 8:
        return `${column} = ${other}`;
      case 9:
        return this.#pick([
          `${column} IS NULL`,
          `${column} = ANY (ARRAY[${value}])`,
          `${column} BETWEEN ${value} AND ${value}`,
        ]);
      case 10:
        return `NOT (${this.#condition(sight, depth)})`;
      case 11:
        return `(${column}, ${other}) = (${value}, ${this.#column(local, 'x') ?? '1'})`;
      case 12:
        return `(${this.#condition(sight, depth)} OR ${this.#condition(sight, depth)})`;
      case 13:
        return `${this.#column(local, 'x') ?? '1'} ${this.#pick(['=', '<', '<>'])} ${this.#upTo(3)}`;
      case 14:
      case 15: {
        const { sql, columns } = this.#query(sight, depth - 1);
        const alias = this.#name('i');
        const not = this.#chance(4) ? 'NOT ' : '';
        return `${column} ${not}IN (SELECT ${alias}.${this.#pick(columns)} FROM (${sql}) ${alias})`;
      }
      case 16:
      case 17:
        return `${this.#chance(3) ? 'NOT ' : ''}EXISTS (SELECT 1 FROM ${this.#source(sight, depth - 1, this.#name('s'))})`;
      case 18:
        return `${column} = (SELECT max(m.id) FROM ${this.#pick(['data', 'orders'])} m WHERE ${this.#conditions([...sight, [{ alias: 'm', columns: ['id', 'x'] }]], 1)})`;
      default:
        return `${column} IN (SELECT ${this.#pick(['id', 'x'])} FROM ${this.#source(sight, depth - 1, this.#name('s'))})`;
    }
  }

  #column(known: readonly Known[], name?: string): string | undefined {
    const all = known.flatMap(({ alias, columns }) =>
      columns.filter(column => name === undefined || column === name).map(column => `${alias}.${column}`),
    );
    return all.length === 0 ? undefined : this.#pick(all);
  }

  #value(): string {
    return String(this.#chance(6) ? this.#upTo(6) : this.#key);
  }

  #name(letter: string): string {
    return `${letter}${++this.#names}`;
  }

  /** Once in `n` times. */
  #chance(n: number): boolean {
    return this.#upTo(n - 1) === 0;
  }

  #upTo(most: number): number {
    return this.#draw(() => this.#number.map(n => n % (most + 1)));
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#upTo(list.length - 1)];
  }
}
