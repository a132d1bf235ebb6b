// How figures and times are written. What is not known is a dash, never a zero.

export const UNKNOWN = "–";

/** A number in at most four significant places, thousands apart. */
export function number(value: number | null | undefined, decimals?: number): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return UNKNOWN;
  const magnitude = Math.abs(value);
  const places = decimals ?? (Number.isInteger(value) || magnitude >= 100 ? 0 : magnitude >= 10 ? 1 : 2);
  return value.toLocaleString("en-GB", { maximumFractionDigits: places });
}

/** A rate: what is below a hundredth, but not nothing, is said so. */
export function rate(value: number | null | undefined, unit = ""): string {
  if (value === null || value === undefined) return UNKNOWN;
  const text = value > 0 && value < 0.01 ? "< 0.01" : number(value);
  return unit ? `${text} ${unit}` : text;
}

/** A length of time: from microseconds to days, in its two largest units. A number stays with its unit where a line is broken. */
export function duration(seconds: number | null | undefined): string {
  return inTwoUnits(seconds).replaceAll(/(\d) /g, "$1\u00a0");
}

function inTwoUnits(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return UNKNOWN;
  if (seconds < 0) return `−${inTwoUnits(-seconds)}`;
  if (seconds === 0) return "0 s";
  if (seconds < 0.001) return `${number(seconds * 1e6, 0)} µs`;
  if (seconds < 1) return `${number(seconds * 1000, seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 10) return `${number(seconds, 1)} s`;
  if (seconds < 99.5) return `${Math.round(seconds)} s`;
  const units: [number, string][] = [
    [86_400, "d"],
    [3_600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  const whole = seconds >= 3_600 ? Math.round(seconds / 60) * 60 : Math.round(seconds);
  const first = units.findIndex(([size]) => whole >= size);
  const [size, unit] = units[first] ?? [1, "s"];
  const next = units[first + 1];
  const count = Math.floor(whole / size);
  const rest = next ? Math.floor((whole - count * size) / next[0]) : 0;
  return rest > 0 && next ? `${count} ${unit} ${rest} ${next[1]}` : `${count} ${unit}`;
}

/** A ratio as a percentage. */
export function percent(ratio: number | null | undefined): string {
  return ratio === null || ratio === undefined ? UNKNOWN : `${Math.round(ratio * 100)}\u00a0%`;
}

/** A size. */
export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = value;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${number(size, unit === 0 ? 0 : 1)} ${units[unit]}`;
}

/** One, or many. */
export function count(value: number, one: string, many = `${one}s`): string {
  return `${number(value)} ${value === 1 ? one : many}`;
}

/** Which zone times are shown in. */
export type Zone = "UTC" | "local";

const formats = new Map<string, Intl.DateTimeFormat>();

function format(zone: Zone, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = `${zone} ${JSON.stringify(options)}`;
  let known = formats.get(key);
  if (!known) {
    known = new Intl.DateTimeFormat("en-GB", {
      ...options,
      hourCycle: "h23",
      ...(zone === "UTC" ? { timeZone: "UTC" } : {}),
    });
    formats.set(key, known);
  }
  return known;
}

/** The zone's short name at that moment, as `UTC` or `CET`. */
export function zoneName(at: Date, zone: Zone): string {
  if (zone === "UTC") return "UTC";
  const parts = format(zone, { hour: "2-digit", timeZoneName: "short" }).formatToParts(at);
  return parts.find((part) => part.type === "timeZoneName")?.value ?? "local";
}

function day(at: Date, zone: Zone): string {
  const parts = format(zone, { year: "numeric", month: "2-digit", day: "2-digit" }).formatToParts(at);
  const of = (type: string) => parts.find((part) => part.type === type)?.value ?? "";
  return `${of("year")}-${of("month")}-${of("day")}`;
}

/** Hours, minutes and seconds. */
export function clock(at: Date, zone: Zone): string {
  return format(zone, { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(at);
}

/** A moment with its zone; the day only when it is not today. */
export function time(iso: string | null | undefined, zone: Zone, now: Date): string {
  const at = iso ? new Date(iso) : null;
  if (!at || Number.isNaN(at.getTime())) return UNKNOWN;
  const today = day(at, zone) === day(now, zone);
  return `${today ? "" : `${day(at, zone)} `}${clock(at, zone)} ${zoneName(at, zone)}`;
}

/** A moment in full, with milliseconds and zone. */
export function fullTime(iso: string | null | undefined, zone: Zone): string {
  const at = iso ? new Date(iso) : null;
  if (!at || Number.isNaN(at.getTime())) return UNKNOWN;
  const milliseconds = String(at.getMilliseconds()).padStart(3, "0");
  return `${day(at, zone)} ${clock(at, zone)}.${milliseconds} ${zoneName(at, zone)}`;
}

/** Seconds from a moment to another; null when there is none. */
export function age(iso: string | null | undefined, now: number): number | null {
  const at = iso ? Date.parse(iso) : Number.NaN;
  return Number.isNaN(at) ? null : Math.max(0, (now - at) / 1000);
}
