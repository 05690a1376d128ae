// The play page: asks the router where to play, plays with hls.js, reports CMCD
// v2 events to the collector, and our beacon for what CMCD does not carry.

const $ = (id) => document.getElementById(id);
const video = $('video');
const params = new URLSearchParams(location.search);
const [, , pathApp, pathStream] = location.pathname.split('/');
const app = params.get('app') || pathApp || 'live';
// What a swipe goes through: this stream and those of ?next=b,c,d.
const streams = [params.get('stream') || pathStream || 'demo', ...(params.get('next') || '').split(',')].filter((s, i, all) => s && all.indexOf(s) === i);
let at = 0;
const stream = streams[0];

// What tests and curious people look at.
const state = (window.spillway = { app, stream, errors: [], states: [], latencies: [], fatal: null, cdns: [], swipes: [] });

function say(text) {
  $('message').textContent = text;
}

// A random id of this browser, so that a viewer stays in the same arm.
function viewer() {
  if (params.get('viewer')) return params.get('viewer');
  try {
    let v = localStorage.getItem('spillway.viewer');
    if (!v) {
      v = crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2);
      localStorage.setItem('spillway.viewer', v);
    }
    return v;
  } catch {
    return '';
  }
}

let router = ''; // its address

async function dispatch(q) {
  if (!router) router = (await (await fetch('/play/config.json')).json()).router;
  const name = q.stream;
  q = new URLSearchParams({ app, viewer: viewer(), ...q });
  for (const p of ['pin', 'key', 'steer']) if (params.get(p)) q.set(p, params.get(p));
  for (;;) {
    if (name && ticket(name)) q.set('ticket', ticket(name));
    const r = await fetch(router + '/v1/dispatch?' + q, { credentials: 'omit' });
    const body = await r.json();
    if (r.ok) {
      if (name) keepTicket(name, '');
      return body;
    }
    if (!body.wait) throw new Error(body.error || 'the router answered ' + r.status);
    keepTicket(name, body.wait.ticket);
    await place(name, body.wait);
  }
}

// All CDNs are full: the viewer waits for a place and comes in by himself. The
// ticket outlives a reload of the page.
const tickets = new Map(); // stream -> ticket

function ticket(name) {
  try {
    return tickets.get(name) || sessionStorage.getItem('spillway.ticket.' + app + '/' + name) || '';
  } catch {
    return '';
  }
}

function keepTicket(name, t) {
  tickets.set(name, t);
  try {
    if (t) sessionStorage.setItem('spillway.ticket.' + app + '/' + name, t);
    else sessionStorage.removeItem('spillway.ticket.' + app + '/' + name);
  } catch {
    // the place is kept while the page is open
  }
}

async function place(name, wait) {
  state.waiting = wait;
  const until = Date.now() + 1000 * wait.retry_after_s;
  const tell = () => say('Many want to watch ' + app + '/' + name + ' right now. You are number ' + wait.position +
    ' in the queue and come in by yourself. Next look in ' + Math.max(0, Math.ceil((until - Date.now()) / 1000)) + ' s.');
  tell();
  const telling = setInterval(tell, 250);
  // One timer, begun by an answer: a row of timers is held back for up to a minute in a tab that nobody sees, and a
  // place that is not asked for is lost after 30 s.
  await new Promise((done) => setTimeout(done, until - Date.now()));
  clearInterval(telling);
  state.waiting = null;
}

// How many streams are asked for ahead of a swipe: the next and the one before, or as many as the session's
// parameter says.
let preload = 2;

// The streams around a place in the list, the nearest first, the next before the one behind.
function beside(i) {
  const near = [];
  for (let k = 1; k < streams.length; k++) near.push(streams[(i + k) % streams.length], streams[(i - k + streams.length) % streams.length]);
  return [...new Set(near)].slice(0, preload);
}

const ahead = new Map(); // stream -> answer given ahead of time, and until when (ms) its order is worth keeping

function keepAhead(d) {
  for (const n of d.neighbours || []) ahead.set(n.stream, { answer: n, until: Date.now() + 1000 * (n.fresh_sec || 0) });
}

// What is beside the stream that plays is asked for while it plays: a swipe starts without asking.
async function lookAhead() {
  const names = beside(at).filter((s) => !ahead.has(s) || ahead.get(s).until < Date.now() + 10000);
  if (names.length) await dispatch({ neighbours: names.join(',') }).then(keepAhead, () => {});
}

// The answer for a stream: the one given ahead, or a new one. One answer is one session: it is used once.
async function answerFor(name, i) {
  const kept = ahead.get(name);
  ahead.delete(name);
  if (kept && kept.until > Date.now()) return { answer: kept.answer, ahead: true };
  const near = beside(i);
  const d = await dispatch({ stream: name, ...(near.length && { neighbours: near.join(',') }) });
  keepAhead(d);
  return { answer: d, ahead: false };
}

// With ?probe=1 the candidates are measured before the first picture, and the router is told.
async function probed(d) {
  if (params.get('probe') !== '1' || !d.probes || (d.candidates || []).length < 2) return d;
  const results = await Promise.all(d.candidates.slice(0, 16).map(async (c) => {
    const t = performance.now();
    try {
      const r = await fetch(c.probe_url, { credentials: 'omit', signal: AbortSignal.timeout(1000) });
      const first = performance.now() - t;
      if (!r.ok || (await r.arrayBuffer()).byteLength !== 1024) throw new Error('not the probe');
      return { cdn: c.cdn, first_byte_ms: first, total_ms: performance.now() - t };
    } catch {
      return { cdn: c.cdn, first_byte_ms: 0, total_ms: 0, failed: true };
    }
  }));
  state.probes = results;
  state.ranked = d.candidates.map((c) => c.cdn); // before
  try {
    const r = await fetch(d.probes, { method: 'POST', credentials: 'omit', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ results }) });
    return r.ok ? { ...(await r.json()), neighbours: d.neighbours } : d;
  } catch {
    return d;
  }
}

const cdnOf = new Map(); // host:port -> CDN name

function noteCDN(url) {
  let host;
  try {
    host = new URL(url).host;
  } catch {
    return;
  }
  const name = cdnOf.get(host) || host;
  if (state.cdns[state.cdns.length - 1] !== name) state.cdns.push(name);
  $('cdn').textContent = name;
}

// hls.js asks for sound once it knows the picture's first timestamp. If it has looked for sound before, it comes
// back to it only at its second next look, and looks are 100 ms apart: a tenth of a second of the first picture.
function promptAudio(Controller) {
  return class extends Controller {
    onInitPtsFound(event, data) {
      super.onInitPtsFound(event, data);
      if (this.state !== 'WAITING_INIT_PTS') return;
      this.tick();
      if (this.state === 'IDLE') this.tick();
    }
  };
}

// Starts once so many seconds are there, or when they do not come within twice that time and two seconds: a viewer
// waits for a fuller buffer, not for ever.
function startFilled(seconds, start) {
  video.autoplay = false;
  const until = Date.now() + 2000 * seconds + 2000;
  const timer = setInterval(() => {
    const b = video.buffered;
    const have = b.length ? b.end(b.length - 1) - Math.max(video.currentTime, b.start(b.length - 1)) : 0;
    state.startBuffer = have;
    if (have < seconds && Date.now() < until) return;
    clearInterval(timer);
    start();
  }, 50);
}

let ending = null; // ends the view that plays

function play(d) {
  if (ending) ending();
  state.stream = d.stream;
  state.session = d.session_id;
  state.dispatch = d;
  $('title').textContent = d.app + '/' + d.stream;
  $('session').textContent = d.session_id;
  $('arms').textContent = d.arms || 'none';
  for (const c of d.candidates || []) cdnOf.set(new URL(c.url).host, c.cdn);

  const p = d.params || {};
  const number = (v) => (v === undefined || isNaN(Number(v)) ? undefined : Number(v));
  const asked = preload;
  preload = number(p.preload_neighbours) ?? 2;
  if (preload > asked) lookAhead();
  const config = {
    lowLatencyMode: true,
    // The first fragments are asked for as soon as the playlist is there, without waiting for the MediaSource.
    startFragPrefetch: true,
    // Steering is told how much is buffered: who has plenty may try whether a CDN is back.
    xhrSetup: (xhr, url) => {
      if (!url.includes('/v1/steering?')) return;
      const b = video.buffered;
      const ms = b.length ? Math.max(0, Math.round(1000 * (b.end(b.length - 1) - video.currentTime))) : 0;
      xhr.open('GET', url + '&bl=' + ms, true);
    },
    audioStreamController: promptAudio(Hls.DefaultConfig.audioStreamController),
    // No rr events unless the page is asked for them (?responses=1): with five parts
    // a second and track they would be most of the telemetry, and the edges' logs
    // say the same with the server's clock. They tell when parts reached the player.
    cmcd: {
      version: 2, sessionId: d.session_id, contentId: d.content_id,
      eventTargets: [{ url: d.telemetry, events: ['ps', 't', 'e', 'bc', 'pr', ...(params.get('responses') === '1' ? ['rr'] : [])], interval: 5, batchSize: 1 }],
    },
  };
  if (number(p.live_sync_duration_s)) config.liveSyncDuration = number(p.live_sync_duration_s);
  if (number(p.max_catchup_rate)) config.maxLiveSyncPlaybackRate = number(p.max_catchup_rate);
  if (d.clearkey) {
    config.emeEnabled = true;
    config.drmSystems = {
      'org.w3.clearkey': {
        licenseUrl: d.clearkey,
        // Keys are asked for when the playlist names them, before the media is there.
        generateRequest: (_, initData, context) => {
          const kid = context.decryptdata.keyId;
          if (!kid) return { initDataType: 'cenc', initData };
          const id = btoa(String.fromCharCode(...kid)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
          return { initDataType: 'keyids', initData: new TextEncoder().encode(JSON.stringify({ kids: [id] })).buffer };
        },
      },
    };
  }
  const hls = new Hls(config);
  state.hls = hls;

  // The same script that other pages load from the collector (docs/telemetry.md).
  const beacon = spillwayBeacon(video, { url: d.beacon, clock: d.clock, sid: d.session_id, player: hls, everyMs: 5000 });
  state.beacon = beacon;
  state.measured = beacon.measured;

  hls.on(Hls.Events.FRAG_LOADED, (_, data) => noteCDN(data.frag.url));
  hls.on(Hls.Events.ERROR, (_, data) => {
    state.errors.push({ type: data.type, details: data.details, fatal: data.fatal, at: Date.now(), message: data.error && data.error.message });
    if (!data.fatal) return;
    state.fatal = data.details;
    if (data.type === Hls.ErrorTypes.MEDIA_ERROR) {
      hls.recoverMediaError();
    } else {
      say('Playback failed (' + data.details + '). Trying again…');
      setTimeout(() => location.reload(), 3000);
    }
  });

  // Media first, then the source: hls.js then reports "starting" at this very moment.
  hls.attachMedia(video);
  beacon.load();
  state.requestedAt = Date.now();
  hls.loadSource(d.url);
  // Autoplay alone waits for far more data than the first frame needs.
  const start = () => video.play().catch((err) => {
    if (err.name === 'NotAllowedError') say('This browser wants a click first: press play.');
  });
  if (number(p.start_buffer_s) > 0) startFilled(number(p.start_buffer_s), start);
  else start();

  const timer = setInterval(() => {
    const m = beacon.measured();
    const l = beacon.latency();
    if (l !== null && !video.seeking && video.readyState > 2) state.latencies.push({ at: Date.now(), ms: l });
    if (state.latencies.length > 5000) state.latencies.splice(0, 1000);
    $('latency').textContent = l === null ? '–' : (l / 1000).toFixed(2) + ' s';
    $('startup').textContent = m.startup_ms === undefined ? '–' : m.startup_ms + ' ms';
    $('stalls').textContent = m.stalls + ' (' + m.stall_ms + ' ms)';
    const b = video.buffered;
    $('buffer').textContent = b.length ? (b.end(b.length - 1) - video.currentTime).toFixed(2) + ' s' : '–';
  }, 250);
  ending = () => {
    clearInterval(timer);
    beacon.end('swipe');
    hls.destroy();
  };
}

// swipe plays the next stream of the list, or the one before.
async function swipe(step) {
  if (streams.length < 2) return;
  at = (at + step + streams.length) % streams.length;
  const asked = performance.now();
  try {
    const { answer, ahead: had } = await answerFor(streams[at], at);
    const entry = { stream: streams[at], ahead: had, dispatchMs: performance.now() - asked };
    state.swipes.push(entry);
    video.addEventListener('playing', () => (entry.pictureMs = performance.now() - asked), { once: true });
    play(answer);
    lookAhead();
  } catch (err) {
    say('Cannot play ' + app + '/' + streams[at] + ': ' + err.message);
  }
}
state.swipe = swipe;

for (const name of ['waiting', 'playing', 'seeking', 'pause', 'ended']) {
  video.addEventListener(name, () => state.states.push({ name, at: Date.now() }));
}
video.addEventListener('playing', () => say(''));
addEventListener('keydown', (e) => {
  const step = { ArrowDown: 1, PageDown: 1, ArrowUp: -1, PageUp: -1 }[e.key];
  if (step && streams.length > 1) {
    e.preventDefault();
    swipe(step);
  }
});
let touched = null;
addEventListener('touchstart', (e) => (touched = e.changedTouches[0].clientY), { passive: true });
addEventListener('touchend', (e) => {
  const d = touched === null ? 0 : e.changedTouches[0].clientY - touched;
  if (Math.abs(d) > 60) swipe(d < 0 ? 1 : -1);
}, { passive: true });
// Answers given ahead are worth keeping for a minute.
if (streams.length > 1) setInterval(lookAhead, 20000);

if (!window.Hls || !Hls.isSupported()) {
  say('This browser has no Media Source Extensions; it cannot play here.');
} else {
  answerFor(stream, 0).then((x) => probed(x.answer)).then(play, (err) => {
    state.fatal = String(err);
    say('Cannot play ' + app + '/' + stream + ': ' + err.message + '. Trying again…');
    setTimeout(() => location.reload(), 3000);
  });
}
