/** HTTP with the cookie session. */

export class Problem extends Error {
  /** @param {{status: number, code: string, detail: string, errors?: Object<string, string[]>}} body */
  constructor(body) {
    super(Object.values(body.errors ?? {}).flat()[0] ?? body.detail);
    this.status = body.status;
    this.code = body.code;
  }
}

function csrfToken() {
  return document.cookie.match(/(?:^|; )bytechat_csrf=([^;]*)/)?.[1] ?? "";
}

/** The decoded answer. Throws Problem for an error of the server, TypeError when it is not reached. */
export async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: {
      ...(body && { "Content-Type": "application/json" }),
      ...(method !== "GET" && { "X-CSRF-TOKEN": csrfToken() }),
    },
    body: body && JSON.stringify(body),
  });
  const text = await response.text();
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    answer = { status: response.status, code: "not_json", detail: `HTTP ${response.status}` };
  }
  if (!response.ok) throw new Problem(answer);
  return answer;
}
