/** How often each statement was routed where, and how long it took: the rows of SHOW ROUTES. */
import type { Route } from '../routing/route.ts';
import type { Statement } from '../sql/statement.ts';

/** What is known of one template. */
export interface RouteUse {
  readonly statement: Statement;
  /** Words of the judgement on it. */
  detail: string;
  /** Its last route. */
  route: Route;
  /** Times that it was sent. */
  uses: number;
  /** Times that it was sent once more, to another server. */
  replays: number;
  /** Microseconds of all exchanges that it was alone in, and how many those were. */
  time_us: number;
  timed: number;
}

/** Templates remembered; the one seen first is forgotten for a new one. */
const TEMPLATES_MAX = 1000;

export class RouteTable {
  readonly #uses = new Map<Statement | string, RouteUse>();

  get uses(): Iterable<RouteUse> {
    return this.#uses.values();
  }

  /** A statement is sent along this route. */
  note(statement: Statement, detail: string, route: Route): RouteUse {
    const key = keyOf(statement);
    let use = this.#uses.get(key);
    if (use === undefined) {
      if (this.#uses.size >= TEMPLATES_MAX) this.#forget();
      use = { statement, detail, route, uses: 0, replays: 0, time_us: 0, timed: 0 };
      this.#uses.set(key, use);
    }
    use.detail = detail;
    use.route = route;
    use.uses++;
    return use;
  }

  /** A statement is sent once more: whether for the first time. */
  replayed(statement: Statement): boolean {
    const use = this.#uses.get(statement);
    return use !== undefined && use.replays++ === 0;
  }

  #forget(): void {
    for (const oldest of this.#uses.keys()) {
      this.#uses.delete(oldest);
      return;
    }
  }
}

/** What was not parsed is another object each time. */
function keyOf(statement: Statement): Statement | string {
  return statement.reason === 'unparsed' ? `${statement.detail}\n${statement.template}` : statement;
}
