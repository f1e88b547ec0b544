/** Parse trees of two texts side by side: the same but for locations and the values of literals, or not. */
import assert from 'node:assert/strict';
import type { Parser } from '../../src/sql/parser.ts';
import type { Template } from '../../src/sql/template.ts';

type Fields = Record<string, unknown>;

/** A constant of a tree: where it is, and its value with its form. */
export interface Constant {
  readonly location: number;
  readonly form: string;
  readonly value: string;
}

/** What is compared of a tree. */
export interface Shape {
  /** The tree without locations and values of literals. */
  readonly tree: unknown;
  /** Its constants that may be literals, in the order of the tree. */
  readonly constants: readonly Constant[];
}

/** The shape of a text's tree; undefined when the grammar refuses it. */
export function shapeOf(parser: Parser, text: Uint8Array): Shape | undefined {
  const parsed = parser.parse(text);
  if (parsed.tree === undefined) {
    assert.ok(parsed.refusal !== 'parser_fault' && parsed.refusal !== 'parser_away', parsed.message);
    return undefined;
  }
  const constants: Constant[] = [];
  return { tree: blank(parsed.tree, constants), constants };
}

/** A copy without locations and literals; an A_Const adds to `constants`. */
function blank(value: unknown, constants: Constant[]): unknown {
  if (Array.isArray(value)) return value.map(item => blank(item, constants));
  if (!isFields(value)) return value;
  const result: Fields = {};
  for (const [key, field] of Object.entries(value)) {
    if (/location|^stmt_len$|^(rexpr_)?list_(start|end)$/.test(key)) continue;
    if (key === 'A_Const' && isFields(field)) result[key] = blankConstant(field, constants);
    else if (key === 'Integer' || key === 'Float') result[key] = '';
    // The precision of CURRENT_TIMESTAMP(3), which is left out when it is 0.
    else if (key !== 'typmod') result[key] = blank(field, constants);
  }
  return result;
}

function blankConstant(constant: Fields, constants: Constant[]): unknown {
  for (const form of ['ival', 'fval', 'sval', 'bsval']) {
    const value = constant[form];
    if (!isFields(value)) continue;
    constants.push({
      location: Number(constant.location ?? 0),
      form,
      value: String(value[form] ?? (form === 'ival' ? 0 : '')),
    });
    return form;
  }
  return { isnull: constant.isnull, boolval: constant.boolval };
}

const FORMS: Readonly<Record<string, string>> = { integer: 'ival', decimal: 'fval', string: 'sval', bits: 'bsval' };

/**
 * That the template scanned last has the tree of the text, and that its holes hold the values that the grammar finds.
 * @returns the number of holes whose values were compared; undefined when the grammar refuses both
 */
export function assertSame(parser: Parser, template: Template, text: Uint8Array): number | undefined {
  const [of_text, of_template] = [shapeOf(parser, text), shapeOf(parser, template.bytes)];
  assert.deepEqual(of_template?.tree, of_text?.tree);
  if (of_text === undefined || of_template === undefined) return undefined;
  let compared = 0;
  for (const [index, { location, form, value }] of of_template.constants.entries()) {
    const original: Constant = of_text.constants[index];
    assert.equal(original.form, form);
    const hole = location < 0 ? undefined : template.holeAt(location);
    if (hole === undefined) {
      assert.equal(value, original.value);
      continue;
    }
    const literal = template.literal(hole);
    assert.equal(FORMS[literal.form], form);
    const negative = /^-/.test(value) && (form === 'fval' || (form === 'ival' && literal.text !== '0'));
    assert.equal(
      `${negative ? '-' : ''}${literal.text}`,
      form === 'fval' ? plainDecimal(original.value) : original.value,
    );
    compared++;
  }
  return compared;
}

/** A number as a literal tells it: without underscores, and in decimal. */
function plainDecimal(value: string): string {
  const [, sign, digits] = /^(-?)(.*)$/.exec(value.replaceAll('_', '')) ?? [];
  return /^0[xob]/i.test(digits) && digits.length < 64 ? `${sign}${BigInt(digits)}` : `${sign}${digits}`;
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null;
}
