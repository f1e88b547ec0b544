/** The queue of replies owed, by property: whatever is sent, refused, skipped or raced, the client gets what a server gives it. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { EXCHANGE_STEPS, Exchange, type ExchangeOwner, OWED, type Owed, STEP } from '../../src/server/exchange.ts';
import { BACKEND } from '../../src/wire/protocol.ts';
import { type ClientMessage, ModelServer, session } from './model.ts';

const NOBODY: ExchangeOwner = {
  reply() {},
  replyError() {},
  repeatsAfter: () => false,
  skips() {},
  completed() {},
  described() {},
  parameterChanged() {},
  copyChanged() {},
  exchangeEnded() {},
  endangered() {},
  unread() {},
  doubts() {},
  moves: () => false,
  yields: () => false,
  connectionLost() {},
};

/** What each message that defines or closes a statement came to, by its position in the session. */
type Fates = Map<number, 'refused' | 'skipped'>;

/** What a server makes of a session that reaches it as it is. */
function straight(messages: readonly ClientMessage[]): { replies: string; fates: Fates } {
  const server = new ModelServer();
  let replies = '';
  const fates: Fates = new Map();
  for (const [id, message] of messages.entries()) {
    const { answer, fate } = server.take(message);
    replies += answer;
    // A query that fails has been tried, and needs nothing taken back.
    if (message.undone && (fate === 'skipped' || (fate === 'refused' && message.type !== 'Q'))) fates.set(id, fate);
  }
  return { replies, fates };
}

/** A session as pglynx passes it on, message by message; `next` chooses who moves. */
class Relay {
  replies = '';
  readonly fates: Fates = new Map();
  readonly #messages: readonly ClientMessage[];
  readonly #server = new ModelServer();
  readonly #exchange = new Exchange(NOBODY, false);
  /** On their way to the server, and from it. */
  readonly #wire: ClientMessage[] = [];
  #inbound = '';
  #at = 0;
  #active = false;
  #skipping = false;
  #undone: number[] = [];

  constructor(messages: readonly ClientMessage[]) {
    this.#messages = messages;
  }

  run(next: (choices: number) => number): void {
    for (;;) {
      const moves: (() => void)[] = [];
      if (this.#at < this.#messages.length && this.#mayTake(this.#messages[this.#at])) moves.push(() => this.#take());
      if (this.#wire.length > 0) moves.push(() => this.#serve());
      if (this.#inbound !== '') moves.push(() => this.#receive());
      if (moves.length === 0) break;
      moves[next(moves.length)]();
    }
    assert.equal(this.#at, this.#messages.length, `stuck at message ${this.#at} after ${this.replies}`);
  }

  #mayTake({ type }: ClientMessage): boolean {
    if (!this.#active) return true;
    if (this.#exchange.copyIn) return true;
    if (this.#exchange.sealed) return 'dcf'.includes(type);
    return !this.#exchange.undecided || 'dcfSH'.includes(type);
  }

  /** As client/intake and client/forward do, with every message a batch of its own. */
  #take(): void {
    const id = this.#at++;
    const message = this.#messages[id];
    const { type } = message;
    const exchange = this.#exchange;
    if (!this.#active) {
      if ('dcf'.includes(type)) return;
      if (this.#skipping && type !== 'S') return this.#ignore(id, message);
      this.#skipping = false;
      if (type === 'S') {
        this.replies += 'Z';
        return;
      }
      this.#active = true;
      exchange.reset();
    }
    if (exchange.copyIn && type === 'S') return this.#send(message, OWED.copySync);
    if (exchange.copyIn && type === 'H') return;
    if (exchange.skipping && type !== 'S') {
      this.#ignore(id, message);
      this.#wire.push(message);
      return;
    }
    this.#forward(id, message);
    if (!exchange.sealed) this.#passLocal();
  }

  #ignore(id: number, message: ClientMessage): void {
    if (message.undone) this.fates.set(id, 'skipped');
  }

  #forward(id: number, message: ClientMessage): void {
    const { type, local, injects } = message;
    const undo = message.undone
      ? {
          undo: (refused: boolean) => {
            this.#undone.push(id);
            this.fates.set(id, refused ? 'refused' : 'skipped');
          },
        }
      : undefined;
    if (injects === 'C') this.#send({ type: 'C', ok: true }, OWED.closeInjected);
    if (injects !== undefined) this.#send({ type: 'P', ok: true }, OWED.parseInjected);
    if (local === true) this.#exchange.owe(type === 'P' ? OWED.parseLocal : OWED.closeLocal, undo);
    else if (type === 'd' || type === 'H') this.#wire.push(message);
    else {
      this.#wire.push(message);
      this.#exchange.owe(OWES[type], undo);
    }
  }

  #send(message: ClientMessage, owed: Owed): void {
    this.#wire.push(message);
    this.#exchange.owe(owed);
  }

  #serve(): void {
    const message = this.#wire.shift();
    if (message !== undefined) this.#inbound += this.#server.take(message).answer;
  }

  #passLocal(): void {
    for (let local = this.#exchange.takeLocal(); local !== undefined; local = this.#exchange.takeLocal()) {
      this.replies += String.fromCharCode(local[0]);
    }
  }

  /** As server/connection does. */
  #receive(): void {
    const exchange = this.#exchange;
    const type = this.#inbound[0];
    this.#inbound = this.#inbound.slice(1);
    this.#passLocal();
    const step = exchange.step(type.charCodeAt(0));
    assert.notEqual(step, STEP.illegal, `${type} was not owed after ${this.replies}`);
    if (step === STEP.count ? exchange.count() : step !== STEP.swallow && exchange.head !== OWED.syncInjected) {
      this.replies += type;
    }
    if (type === 'E') this.#fail(step === STEP.skip);
    else if (step === STEP.copyIn) exchange.beginCopyIn();
    else if (type === 'C') exchange.complete();
    if (step === STEP.settle || step === STEP.swallow) exchange.settle();
    if (step === STEP.end && exchange.end()) {
      this.#active = false;
      this.#skipping = exchange.skipping;
    } else if (!exchange.sealed) this.#passLocal();
  }

  #fail(skip: boolean): void {
    this.#undone = [];
    this.#exchange.fail(skip);
    const newestFirst = this.#undone.toSorted((a, b) => b - a);
    assert.deepEqual(this.#undone, newestFirst, 'undone in the wrong order');
    if (!this.#exchange.unclear) return;
    this.#exchange.unclear = false;
    this.#wire.push({ type: 'S', ok: true }, { type: 'C', ok: true }, { type: 'S', ok: true });
  }
}

const OWES: Readonly<Record<string, Owed>> = {
  P: OWED.parse,
  B: OWED.bind,
  D: OWED.describe,
  E: OWED.execute,
  C: OWED.close,
  S: OWED.sync,
  Q: OWED.query,
  F: OWED.functionCall,
  c: OWED.copyEnd,
  f: OWED.copyEnd,
};

suite('whatever a client sends', () => {
  test('it gets what the server would have said to it, in every order of events', () => {
    fc.assert(
      fc.property(session, fc.infiniteStream(fc.nat()), (messages, stream) => {
        const expected = straight(messages);
        const relay = new Relay(messages);
        relay.run(choices => (stream.next().value ?? 0) % choices);
        assert.equal(relay.replies, expected.replies);
        assert.deepEqual(relay.fates, expected.fates);
      }),
      { numRuns: 20_000 },
    );
  });
});

suite('the table', () => {
  const types = Object.values(BACKEND);

  test('has one step for each reply of each entry, and everything else is illegal', () => {
    const seen = new Map<Owed, Map<number, number>>();
    for (const [owed, step, replies] of EXCHANGE_STEPS) {
      const steps = seen.get(owed) ?? new Map<number, number>();
      seen.set(owed, steps);
      for (const type of replies) {
        assert.equal(steps.has(type), false, `two steps for ${String.fromCharCode(type)} of ${owed}`);
        steps.set(type, step);
      }
    }
    for (const owed of Object.values(OWED)) {
      // A COPY's end owes nothing, and what pglynx answers itself is never asked for a step.
      if (owed === OWED.copyEnd) continue;
      for (const type of types) {
        const exchange = new Exchange(NOBODY, false);
        exchange.owe(owed);
        assert.equal(exchange.step(type), seen.get(owed)?.get(type) ?? STEP.illegal);
      }
    }
  });

  test('takes nothing when nothing is owed', () => {
    const exchange = new Exchange(NOBODY, false);
    for (const type of types) assert.equal(exchange.step(type), STEP.illegal);
  });
});

test('a lost connection undoes what was not answered, the newest first', () => {
  const undone: [number, boolean][] = [];
  const exchange = new Exchange(NOBODY, false);
  for (let id = 0; id < 4; id++) exchange.owe(OWED.parse, { undo: refused => void undone.push([id, refused]) });
  exchange.owe(OWED.sync);
  exchange.settle();
  exchange.abandon();
  assert.deepEqual(undone, [
    [3, false],
    [2, false],
    [1, false],
  ]);
  assert.equal(exchange.settled, true);
});
