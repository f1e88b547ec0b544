/** How often each statement was routed where, and how long it took: the rows of SHOW ROUTES. */
import type { Route } from '../routing/route.ts';
import type { Statement } from '../sql/statement.ts';
import { ServiceTime } from '../stats/service.ts';

/** What is known of one template. */
export interface RouteUse {
  readonly template: string;
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
  /** What it takes of a server, as far as it ran between the statements of others. */
  readonly service: ServiceTime;
  /** Whether it was used since it was last passed over when one had to be forgotten. */
  recent: boolean;
}

/** Templates remembered; for a new one the first is forgotten that was not used since its turn before. */
const TEMPLATES_MAX = 1000;

export class RouteTable {
  readonly #uses = new Map<string, RouteUse>();

  get uses(): Iterable<RouteUse> {
    return this.#uses.values();
  }

  /** What it takes of a server; undefined when it was never sent. */
  service({ template }: Statement): ServiceTime | undefined {
    return this.#uses.get(template)?.service;
  }

  /** A statement is sent along this route. */
  note({ template }: Statement, detail: string, route: Route): RouteUse {
    let use = this.#uses.get(template);
    if (use === undefined) {
      if (this.#uses.size >= TEMPLATES_MAX) this.#forget();
      use = {
        template,
        detail,
        route,
        uses: 0,
        replays: 0,
        time_us: 0,
        timed: 0,
        service: new ServiceTime(),
        recent: false,
      };
      this.#uses.set(template, use);
    } else use.recent = true;
    use.detail = detail;
    use.route = route;
    use.uses++;
    return use;
  }

  /** A statement is sent once more: whether for the first time. */
  replayed({ template }: Statement): boolean {
    const use = this.#uses.get(template);
    return use !== undefined && use.replays++ === 0;
  }

  #forget(): void {
    for (const [template, use] of this.#uses) {
      this.#uses.delete(template);
      if (!use.recent) return;
      use.recent = false;
      this.#uses.set(template, use);
    }
  }
}
