// The play page: asks the router where to play, plays with hls.js, reports CMCD
// v2 events to the collector, and our beacon for what CMCD does not carry.

const $ = (id) => document.getElementById(id);
const video = $('video');
const params = new URLSearchParams(location.search);
const [, , pathApp, pathStream] = location.pathname.split('/');
const app = params.get('app') || pathApp || 'live';
const stream = params.get('stream') || pathStream || 'demo';

// What tests and curious people look at.
const state = (window.spillway = { app, stream, errors: [], states: [], latencies: [], fatal: null, cdns: [] });

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

async function dispatch() {
  const config = await (await fetch('/play/config.json')).json();
  const q = new URLSearchParams({ app, stream, viewer: viewer() });
  for (const p of ['pin', 'key']) if (params.get(p)) q.set(p, params.get(p));
  const r = await fetch(config.router + '/v1/dispatch?' + q, { credentials: 'omit' });
  const body = await r.json();
  if (!r.ok) throw new Error(body.error || 'the router answered ' + r.status);
  return body;
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

function play(d) {
  state.session = d.session_id;
  state.dispatch = d;
  $('title').textContent = d.app + '/' + d.stream;
  $('session').textContent = d.session_id;
  $('arms').textContent = d.arms || 'none';
  for (const c of d.candidates || []) cdnOf.set(new URL(c.url).host, c.cdn);

  const p = d.params || {};
  const number = (v) => (v === undefined || isNaN(Number(v)) ? undefined : Number(v));
  const config = {
    lowLatencyMode: true,
    // The first fragments are asked for as soon as the playlist is there, without waiting for the MediaSource.
    startFragPrefetch: true,
    audioStreamController: promptAudio(Hls.DefaultConfig.audioStreamController),
    // No rr events: with five parts a second and track they would be most of
    // the telemetry, and the edges' logs say the same with the server's clock.
    cmcd: {
      version: 2, sessionId: d.session_id, contentId: d.content_id,
      eventTargets: [{ url: d.telemetry, events: ['ps', 't', 'e', 'bc', 'pr'], interval: 5, batchSize: 1 }],
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
  for (const name of ['waiting', 'playing', 'seeking', 'pause', 'ended']) {
    video.addEventListener(name, () => state.states.push({ name, at: Date.now() }));
  }
  video.addEventListener('playing', () => say(''));

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

  setInterval(() => {
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
}

if (!window.Hls || !Hls.isSupported()) {
  say('This browser has no Media Source Extensions; it cannot play here.');
} else {
  dispatch().then(play, (err) => {
    state.fatal = String(err);
    say('Cannot play ' + app + '/' + stream + ': ' + err.message + '. Trying again…');
    setTimeout(() => location.reload(), 3000);
  });
}
