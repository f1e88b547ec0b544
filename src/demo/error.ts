/** The error of everything that can go wrong around the demo's PostgreSQL servers: its message is one line for an operator. */

export class DemoError extends Error {
  override readonly name = 'DemoError';
}
