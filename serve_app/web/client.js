// Calls to the API; what goes wrong becomes a Problem whose message is for people.

export class Problem extends Error {}

// Where the server asks who is there, changes need this beside the session's cookie, which no script can read.
export function csrfToken() {
  return /(?:^|; )raysight_csrf=([^;]*)/.exec(document.cookie)?.[1];
}

function headersOf(method, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  const token = csrfToken();
  if (token && method !== "GET") headers["X-CSRF-Token"] = token;
  return headers;
}

export async function call(method, path, body, signal) {
  let response;
  try {
    response = await fetch(path, {
      method,
      signal,
      headers: headersOf(method, body),
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer. The page goes on trying.");
  }
  if (response.status === 401) location.reload(); // the session has ended: the login page comes
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(answer.detail || `The server answered ${response.status}.`);
  return answer;
}

export const streamPath = (id) => `v1/streams/${encodeURIComponent(id)}`;
