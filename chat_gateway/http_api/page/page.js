// The chat page: sends a conversation, shows the answer as it is released and the guard at work.
// Whatever a model or a person wrote is set as text, never as HTML.
"use strict";

const byId = (id) => document.getElementById(id);
const [log, welcome, composer, message] = ["log", "welcome", "composer", "message"].map(byId);
const [send, stop, policy, model] = ["send", "stop", "policy", "model"].map(byId);

// What each mode of a policy promises, and what is said while the answer is being written.
const MODES = {
  strict: {
    blocks: true,
    promise: "Every word is judged before you see it.",
    explanation: "The guard reads your message first, then the answer while it is being written. " +
      "Text that has no verdict yet is held back.",
    writing: "Writing",
    held: "held until judged",
  },
  buffer: {
    blocks: true,
    promise: "Every answer is judged before you see it.",
    explanation: "The guard reads your message first, then the answer, which appears all at once " +
      "when it is safe as a whole.",
    writing: "Writing",
    held: "held until all of it is judged",
  },
  annotate: {
    promise: "Every word is judged, and nothing is blocked.",
    explanation: "You see the answer as it is written. Verdicts follow a moment later and are only " +
      "reported.",
    writing: "Writing; verdicts follow",
  },
  shadow: {
    promise: "Nothing is blocked here.",
    explanation: "You see the answer as it is written. Its verdicts are for the operator alone.",
    writing: "Writing",
  },
};
const mode = () => MODES[policy.selectedOptions[0]?.dataset.mode] ?? MODES.strict;

let history = [];
let running = null;

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

const percent = (probability) => {
  if (probability > 0 && probability < 0.001) return "< 0.1 %";
  return `${(probability * 100).toFixed(1)} %`;
};
const milliseconds = (ms) => (ms < 1 ? "< 1 ms" : ms < 10000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
const characters = (count) => `${count.toLocaleString("en")} ${count === 1 ? "character" : "characters"}`;
const named = (categories) => categories.map((each) => `${each.code} ${each.name}`).join(", ");

// One line under a turn: what the guard found in it, how sure it is, and what that cost.
class VerdictLine {
  constructor({ blocks }) {
    this.blocks = blocks;
    this.verb = blocks ? "guard added" : "judged after";
    this.root = element("div", "verdict");
    this.chip = element("span", "chip");
    this.score = element("span", "score");
    this.categories = element("span", "categories");
    this.checks = element("span", "checks");
    this.cost = element("span", "cost");
    this.delay = element("span", "delay");
    this.latest = null;
    this.numChecks = 0;
  }

  show(news) {
    if (!this.latest) this.root.append(this.chip, this.score, this.categories, this.checks, this.cost, this.delay);
    // A block repeats the verdict that led to it; that is no further check.
    const repeated = news.blocked && this.latest?.unsafe;
    this.latest = news;
    this.judge(news);
    if (news.unsafe_probability === undefined) {
      if (!news.blocked) this.categories.textContent = "let pass without a verdict";
      return;
    }
    this.score.textContent = `P(unsafe) ${percent(news.unsafe_probability)}`;
    this.categories.textContent = named(news.categories);
    if (!repeated) this.count(news);
  }

  judge(news) {
    const kind = news.unsafe === undefined ? "unjudged" : news.unsafe ? "unsafe" : "safe";
    const words = { safe: "Safe", unsafe: "Unsafe", unjudged: "Not judged" };
    const reported = news.unsafe && news.final && !news.blocked ? ", only reported" : "";
    this.chip.className = `chip ${kind}`;
    this.chip.textContent = words[kind] + (news.final ? reported : " so far");
  }

  count(news) {
    if (news.phase === "prompt") {
      this.cost.textContent = `${this.verb} ${milliseconds(news.elapsed_ms)}`;
      return;
    }
    this.numChecks += 1;
    this.cost.textContent = this.numChecks === 1 ? "1 check" : `${this.numChecks} checks`;
    if (!this.blocks) this.delay.textContent = "no delay added";
    const bar = element("i", news.unsafe ? "unsafe" : "");
    bar.style.height = `${Math.max(news.unsafe_probability, 0.12) * 100}%`;
    this.checks.append(bar);
    this.checks.title = "P(unsafe) at each check";
  }
}

// How much later an answer was seen than written: its first words, and its end.
function delays({ first_delay_ms, end_delay_ms }) {
  const first = first_delay_ms === null ? "" : `${milliseconds(first_delay_ms)} at the start`;
  const end = end_delay_ms === null ? "" : `${milliseconds(end_delay_ms)} at the end`;
  const both = [first, end].filter(Boolean).join(", ");
  return both && `guard added ${both}`;
}

// Stands for text nobody may see yet: as long as that is, up to a few lines.
const veil = (count) => "x".repeat(Math.min(count, 400));

// One question and its answer.
class Exchange {
  constructor(text) {
    this.mode = mode();
    this.text = text;
    this.answer = "";
    this.blocked = false;
    this.failed = false;
    this.why = null;
    this.asked = element("section", "turn user");
    this.promptVerdict = new VerdictLine(this.mode);
    this.asked.append(element("h2", "unseen", "You"), element("p", "text", text), this.promptVerdict.root);
    this.said = element("section", "turn assistant");
    this.reasoning = element("p", "text reasoning");
    this.body = element("p", "text");
    const first = this.mode === MODES.shadow ? this.mode.writing : "Judging your message";
    this.held = element("span", "held", first);
    this.veil = element("span", "veil");
    this.veil.setAttribute("aria-hidden", "true");
    this.verdict = new VerdictLine(this.mode);
    this.said.append(element("h2", "unseen", "Answer"), this.reasoning, this.body, this.held, this.verdict.root);
    log.append(this.asked, this.said);
  }

  read(chunk) {
    if (chunk.error) throw new Error(chunk.error.message);
    if (chunk.guard) this.hear(chunk.guard);
    if (chunk.held) this.hold(chunk.held);
    for (const choice of chunk.choices) this.extend(choice);
  }

  hear(news) {
    if (news.blocked || news.reason) this.why = news;
    (news.phase === "prompt" ? this.promptVerdict : this.verdict).show(news);
    if (news.phase === "prompt" && !news.blocked) this.pending(0);
  }

  hold(news) {
    this.pending(news.characters);
    this.verdict.delay.textContent = delays(news);
  }

  pending(count) {
    this.held.textContent = count && this.mode.held
      ? `${characters(count)} ${this.mode.held}`
      : this.mode.writing;
    this.veil.textContent = veil(count);
    if (count && this.mode.held) this.body.append(this.veil);
    else this.veil.remove();
  }

  extend({ delta, finish_reason }) {
    if (finish_reason === "content_filter") this.blocked = true;
    if (delta.refusal) {
      this.refuse(delta.refusal);
    } else {
      this.reasoning.append(delta.reasoning_content ?? "");
      this.body.append(delta.content ?? "");
      if (this.veil.isConnected) this.body.append(this.veil);
      this.answer += delta.content ?? "";
    }
    if (finish_reason === "length") this.note("The answer reached its longest allowed length.");
  }

  refuse(refusal) {
    this.blocked = true;
    const side = this.why?.phase === "prompt" ? "message" : "answer";
    const found = this.why?.categories?.length ? named(this.why.categories) : "an unsafe text";
    const reason = this.why?.unsafe
      ? `The guard found ${found} in the ${side} (P(unsafe) ${percent(this.why.unsafe_probability)})` +
        (side === "answer" ? " and stopped it. The rest was never shown." : ". The model was not asked.")
      : this.why ? "The guard could not judge this, so it was not shown." : "";
    this.card("refusal", refusal, reason);
  }

  fail(error) {
    this.failed = true;
    this.card("refusal trouble", "No answer", error.message);
  }

  note(text) {
    this.said.append(element("span", "verdict", text));
  }

  card(className, title, text) {
    const card = element("div", className);
    card.append(element("p", "", title));
    if (text) card.append(element("p", "", text));
    this.held.before(card);
  }

  end() {
    this.held.remove();
    this.veil.remove();
    if (this.answer && !this.blocked && !this.verdict.latest) this.note("This policy reports no verdicts.");
  }

  // Blocked turns stay out of the conversation: the next one would be judged with them.
  get turns() {
    if (this.blocked || this.failed || !this.answer) return [];
    return [{ role: "user", content: this.text }, { role: "assistant", content: this.answer }];
  }
}

async function problem(response) {
  try {
    const { error } = await response.json();
    return new Error(`${error.message} (HTTP ${response.status})`);
  } catch {
    return new Error(`The gateway answered with HTTP ${response.status}.`);
  }
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("The connection ended before the answer did.");
    const lines = (rest + value).split("\n\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "data: [DONE]") return;
      if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
    }
  }
}

async function stream(exchange, signal) {
  const headers = { "content-type": "application/json", "x-guard-detail": "2" };
  if (policy.value) headers["x-guard-policy"] = policy.value;
  const messages = [...history, { role: "user", content: exchange.text }];
  const response = await fetch("/v1/chat/completions", {
    method: "POST", headers, signal,
    body: JSON.stringify({ model: model.dataset.id, messages, stream: true }),
  });
  if (!response.ok) throw await problem(response);
  for await (const chunk of events(response)) keepInView(() => exchange.read(chunk));
}

// Follow the answer only while the reader is at the end of it.
function keepInView(change) {
  const following = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  change();
  if (following) log.scrollTop = log.scrollHeight;
}

async function ask(text) {
  welcome.hidden = true;
  const exchange = new Exchange(text);
  log.scrollTop = log.scrollHeight;
  running = new AbortController();
  const { signal } = running;
  showRunning(true);
  try {
    await stream(exchange, signal);
  } catch (error) {
    keepInView(() => (signal.aborted ? exchange.note("Stopped.") : exchange.fail(error)));
  }
  keepInView(() => exchange.end());
  if (exchange.asked.isConnected) history.push(...exchange.turns);
  running = null;
  showRunning(false);
}

function showRunning(isRunning) {
  send.hidden = isRunning;
  stop.hidden = !isRunning;
  log.setAttribute("aria-busy", String(isRunning));
  allowSending();
}

const allowSending = () => { send.disabled = !message.value.trim() || !model.dataset.id; };

function submit() {
  const text = message.value.trim();
  if (!text || running || !model.dataset.id) return;
  message.value = "";
  message.focus();
  ask(text);
}

function clear() {
  running?.abort();
  history = [];
  log.replaceChildren(welcome);
  welcome.hidden = false;
  message.focus();
}

async function list(path) {
  const response = await fetch(path);
  if (!response.ok) throw await problem(response);
  return (await response.json()).data;
}

function option({ id, mode }) {
  const made = new Option(id === mode ? id : `${id} (${mode})`, id);
  made.dataset.mode = mode;
  return made;
}

function promise() {
  byId("promise").textContent = mode().promise;
  byId("explanation").textContent = mode().explanation;
}

async function prepare() {
  try {
    const [models, policies] = await Promise.all([list("/v1/models"), list("/v1/policies")]);
    model.dataset.id = models[0].id;
    model.textContent = models[0].id;
    policy.append(...policies.map(option));
  } catch (error) {
    model.textContent = `The gateway cannot be reached: ${error.message}`;
  }
  promise();
  allowSending();
}

policy.addEventListener("change", promise);
composer.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
message.addEventListener("input", allowSending);
message.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
stop.addEventListener("click", () => running?.abort());
byId("clear").addEventListener("click", clear);
byId("examples").addEventListener("click", (event) => {
  if (event.target instanceof HTMLButtonElement) {
    message.value = event.target.textContent;
    submit();
  }
});

prepare();
