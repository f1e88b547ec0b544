/** The error that an operator can mend: it is shown as one line, without a stack. */

export class OperatorError extends Error {
  override readonly name = 'OperatorError';
}
