// What a person may change. Shown only when the installation allows it; every one is asked about first.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { ApiError, feedApi, request } from "../api/client";
import type { ActionAnswer, ActionName, Detail } from "../api/types";
import { authorization, hasToken, loadSession, session, setToken } from "../state";
import { ErrorNotice } from "./bits";

const TEXTS: Record<ActionName, { title: string; what: string }> = {
  suspend: { title: "Suspend", what: "Polling stops; what is queued is still stored. Resume starts it again." },
  resume: { title: "Resume", what: "Polling starts again." },
  restart: {
    title: "Restart",
    what: "The workers' pods are replaced one after the other. Nothing is lost and nothing is counted twice.",
  },
  drain: {
    title: "Drain",
    what: "Polling stops, and the feed says Drained once everything that was queued is committed.",
  },
  checkpoint: {
    title: "Checkpoint",
    what: "Waits, for ten seconds at most, until every partition has committed what it held. It changes nothing.",
  },
};

/** The actions that make sense for a feed. */
function possible(names: readonly ActionName[], feed: Detail): ActionName[] {
  return names.filter((name) => {
    if (name === "resume") return feed.suspended;
    if (name === "suspend" || name === "drain") return !feed.suspended;
    return true;
  });
}

export function Actions({ feed }: { feed: Detail }) {
  const chosen = useSignal<ActionName | null>(null);
  const actions = session.value?.actions;
  if (!actions?.enabled || feed.state === "Deleting") return null;
  return (
    <div class="actions">
      {possible(actions.names, feed).map((name) => (
        <button
          type="button"
          key={name}
          onClick={() => {
            chosen.value = name;
          }}
        >
          {TEXTS[name].title}…
        </button>
      ))}
      {hasToken.value && (
        <button
          type="button"
          class="plain"
          onClick={() => {
            setToken(null);
            void loadSession();
          }}
        >
          Forget the token{session.value?.user ? ` of ${session.value.user.name}` : ""}
        </button>
      )}
      {chosen.value && (
        <Confirm
          feed={feed}
          action={chosen.value}
          header={actions.header}
          onClose={() => {
            chosen.value = null;
          }}
        />
      )}
    </div>
  );
}

interface ConfirmProps {
  feed: Detail;
  action: ActionName;
  header: string;
  onClose: () => void;
}

function Confirm({ feed, action, header, onClose }: ConfirmProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const field = useRef<HTMLInputElement>(null);
  const busy = useSignal(false);
  const error = useSignal<unknown>(null);
  const answer = useSignal<ActionAnswer | null>(null);
  const components = useSignal<("producer" | "processor")[]>(["producer", "processor"]);
  const { title, what } = TEXTS[action];

  useEffect(() => {
    dialog.current?.showModal();
  }, []);

  const act = async (event: Event) => {
    event.preventDefault();
    const typed = field.current?.value.trim();
    if (typed) setToken(typed);
    busy.value = true;
    error.value = null;
    try {
      const restart = action === "restart";
      answer.value = await request<ActionAnswer>(feedApi(feed.namespace, feed.name, `/actions/${action}`), {
        method: "POST",
        headers: { ...authorization(), [header]: "1", ...(restart ? { "Content-Type": "application/json" } : {}) },
        ...(restart ? { body: JSON.stringify({ components: components.value }) } : {}),
      });
      void loadSession();
    } catch (failed) {
      // A token that is not known is asked for again.
      if (failed instanceof ApiError && failed.status === 401) setToken(null);
      error.value = failed;
    } finally {
      busy.value = false;
    }
  };

  const toggle = (name: "producer" | "processor") => {
    const there = components.value.includes(name);
    components.value = there ? components.value.filter((other) => other !== name) : [...components.value, name];
  };

  const done = answer.value;
  return (
    <dialog ref={dialog} class="confirm" aria-labelledby="confirm-title" onClose={onClose}>
      <form onSubmit={act}>
        <h2 id="confirm-title">
          {title} {feed.namespace}/{feed.name}?
        </h2>
        {done ? (
          <div role="status">
            <p class="notice ok">
              ✓ {done.message} <span class="muted">(as {done.user})</span>
            </p>
            {done.follow && <p>What follows shows in: {done.follow}</p>}
            {done.checkpoints && (
              <ul>
                {done.checkpoints.map((each) => (
                  <li key={each.partition}>
                    partition {each.partition}:{" "}
                    {each.complete ? `committed as ${each.checkpoint ?? "–"}` : "not committed in time"}
                  </li>
                ))}
              </ul>
            )}
          </div>
        ) : (
          <>
            <p>{what}</p>
            {action === "restart" && (
              <fieldset>
                <legend>Which pods</legend>
                {(["producer", "processor"] as const).map((name) => (
                  <label key={name}>
                    <input type="checkbox" checked={components.value.includes(name)} onChange={() => toggle(name)} />{" "}
                    {name}
                  </label>
                ))}
              </fieldset>
            )}
            {!hasToken.value && (
              <label class="block">
                Your token of Kubernetes, as from <code>kubectl create token</code>
                <input ref={field} type="password" name="token" autoComplete="off" spellcheck={false} required />
                <span class="muted">It stays in this page's memory, and is gone when the page is closed.</span>
              </label>
            )}
          </>
        )}
        {error.value !== null && <ErrorNotice error={error.value} what={`${title} was not done`} />}
        <div class="buttons">
          {hasToken.value && error.value instanceof ApiError && error.value.status === 403 && (
            <button
              type="button"
              class="plain"
              onClick={() => {
                setToken(null);
                error.value = null;
              }}
            >
              Use another token
            </button>
          )}
          <button type="button" onClick={() => dialog.current?.close()}>
            {done ? "Close" : "Cancel"}
          </button>
          {!done && (
            <button
              type="submit"
              class="primary"
              disabled={busy.value || (action === "restart" && components.value.length === 0)}
            >
              {busy.value ? "Asking…" : title}
            </button>
          )}
        </div>
      </form>
    </dialog>
  );
}
