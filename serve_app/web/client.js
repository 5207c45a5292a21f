// Calls to the API; what goes wrong becomes a Problem whose message is for people.

export class Problem extends Error {}

export async function call(method, path, body, signal) {
  let response;
  try {
    response = await fetch(path, {
      method,
      signal,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer. The page goes on trying.");
  }
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(answer.detail || `The server answered ${response.status}.`);
  return answer;
}

export const streamPath = (id) => `v1/streams/${encodeURIComponent(id)}`;
