// Reads of the API. Every error has a code, a message, and what may help.

const PATIENCE_MILLISECONDS = 12_000;

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly remedy: string | null,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

/** What was wrong, as the server says it, or what is known of an answer that is not the API's. */
function errorOf(status: number, text: string): ApiError {
  try {
    const { code, message, remedy } = (
      JSON.parse(text) as { error: { code: string; message: string; remedy?: string } }
    ).error;
    return new ApiError(status, code, message, remedy ?? null);
  } catch {
    return new ApiError(status, "Unavailable", `the server answered ${status}`, null);
  }
}

/** Asks for JSON. A server that does not answer in time is an error like others. */
export async function request<T>(path: string, options: RequestInit = {}): Promise<T> {
  const timeout = AbortSignal.timeout(PATIENCE_MILLISECONDS);
  const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, { ...options, signal, headers: { Accept: "application/json", ...options.headers } });
    text = await response.text();
  } catch (error) {
    if (options.signal?.aborted) throw error;
    const message = timeout.aborted ? "the dashboard does not answer" : "the dashboard cannot be reached";
    throw new ApiError(0, "Unreachable", message, "Does the port-forward still run?");
  }
  if (!response.ok) throw errorOf(response.status, text);
  return JSON.parse(text) as T;
}

export const feedApi = (namespace: string, name: string, rest = "") =>
  `/api/v1/feeds/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}${rest}`;

/** Any error as a sentence. */
export function said(error: unknown): { message: string; remedy: string | null; code: string } {
  if (error instanceof ApiError) return { message: error.message, remedy: error.remedy, code: error.code };
  return { message: error instanceof Error ? error.message : String(error), remedy: null, code: "Error" };
}
