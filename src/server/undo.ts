/** What is assumed when a message is sent, and how it is taken back. */

/** Takes back what was assumed when a message was sent that the server then refused or skipped. */
export interface Undo {
  /** `refused` when the server looked at this message and answered it with an error, not when it skipped it. */
  undo(refused: boolean): void;
}

/** What was assumed of a connection when a message was sent. */
export interface Assumption extends Undo {
  /** The server has done it. */
  confirm(): void;
}
