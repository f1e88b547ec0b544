/** Ranges of IP addresses, as a line of an hba file names them. */
import { BlockList, isIP } from 'node:net';
import { networkInterfaces } from 'node:os';

export class Addresses {
  // One list would take IPv4 addresses for those IPv6 ones that stand for them.
  readonly #ipv4 = new BlockList();
  readonly #ipv6 = new BlockList();

  /** Adds those that begin as `address` does, in the first `length` bits. */
  add(address: string, length: number): void {
    if (isIP(address) === 6) this.#ipv6.addSubnet(address, length, 'ipv6');
    else this.#ipv4.addSubnet(address, length, 'ipv4');
  }

  /** Whether this address, an IPv4 one in IPv6 spelling too, is among them. */
  includes(address: string): boolean {
    const plain = plainAddress(address);
    const family = isIP(plain);
    if (family === 4) return this.#ipv4.check(plain, 'ipv4');
    return family === 6 && this.#ipv6.check(plain, 'ipv6');
  }
}

/** `address` without a zone, and an IPv4 address that came to an IPv6 socket as itself. */
export function plainAddress(address: string): string {
  return address.replace(/%.*$/, '').replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, '');
}

/** The range of an address and a number of bits or a mask such as 255.255.255.0; undefined when they do not fit. */
export function addressesOf(address: string, mask: string): Addresses | undefined {
  const bits = isIP(address) === 6 ? 128 : 32;
  const length = /^\d{1,3}$/.test(mask) ? Number(mask) : maskLength(mask, isIP(address));
  if (length === undefined || length > bits) return undefined;
  const addresses = new Addresses();
  addresses.add(address, length);
  return addresses;
}

/** Every address of this machine. */
export function sameHost(): Addresses {
  const addresses = new Addresses();
  for (const { address, family } of interfaces()) addresses.add(plainAddress(address), family === 'IPv6' ? 128 : 32);
  return addresses;
}

/** Every address of the networks that this machine is in. */
export function sameNet(): Addresses {
  const addresses = new Addresses();
  for (const { address, cidr } of interfaces()) {
    const length = Number(cidr?.split('/')[1]);
    if (Number.isInteger(length)) addresses.add(plainAddress(address), length);
  }
  return addresses;
}

function interfaces() {
  return Object.values(networkInterfaces()).flatMap(found => found ?? []);
}

/** The number of ones that a mask begins with, if it has no others. */
function maskLength(mask: string, family: number): number | undefined {
  if (isIP(mask) !== family) return undefined;
  const bits = family === 4 ? ipv4Bits(mask) : ipv6Bits(mask);
  return /^1*0*$/.test(bits) ? bits.lastIndexOf('1') + 1 : undefined;
}

function ipv4Bits(mask: string): string {
  return mask
    .split('.')
    .map(byte => Number(byte).toString(2).padStart(8, '0'))
    .join('');
}

function ipv6Bits(mask: string): string {
  const [head = '', tail] = mask.split('::');
  const words = (part: string | undefined) => (part === undefined || part === '' ? [] : part.split(':'));
  const [left, right] = [words(head), words(tail)];
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0');
  return [...left, ...zeros, ...right].map(word => Number.parseInt(word, 16).toString(2).padStart(16, '0')).join('');
}
