/** The public API of the package: read a configuration, and run a proxy with it. */
export type { ShutdownMode } from './admin/control.ts';
export { type LoadedConfig, loadConfig, parseConfig } from './config/load.ts';
export { ConfigError, type Problem } from './config/problem.ts';
export type { Config } from './config/schema.ts';
export { type Bound, PortError } from './net/ports.ts';
export { explainText } from './proxy/explain.ts';
export { createProxy, type PgProxy, type ProxyOptions } from './proxy.ts';
