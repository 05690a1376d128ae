// A bare page: hls.js with default settings plays ?url=, and what a viewer would notice is written down in
// window.view. Times are milliseconds of performance.now() since the source was given to hls.js.
'use strict';
(() => {
  const params = new URLSearchParams(location.search);
  const video = document.getElementById('video');
  const view = (window.view = {
    firstFrameMs: null, stalls: [], seeks: 0, errors: [], latencies: [], trueLatencies: [], log: [], now: 0, playedS: 0,
    requests: [], repeated: 0,
  });
  performance.setResourceTimingBufferSize(20000);
  // What was asked for since the source was given, in order. With until, only what began before it.
  const requests = (until) => performance.getEntriesByType('resource')
    .filter((e) => e.initiatorType === 'xmlhttprequest' || e.initiatorType === 'fetch')
    .map((e) => ({ name: e.name.split('/').slice(-2).join('/'), atMs: e.startTime - begun, ms: e.duration }))
    .filter((e) => e.atMs < until);
  const config = {};
  if (params.has('log')) {
    const note = (...a) => view.log.push((performance.now() - begun).toFixed(0) + ' ' + a.join(' '));
    config.debug = { trace: note, debug: note, log: note, info: note, warn: note, error: note };
  }
  let begun = performance.now();
  const now = () => performance.now() - begun;
  const hls = new Hls(config);
  window.hls = hls;
  hls.attachMedia(video);
  begun = performance.now();
  hls.loadSource(params.get('url'));
  video.play().catch(() => {});

  let first = 0; // media time of the first picture
  const ranges = (b) => Array.from({ length: b.length }, (_, i) => b.start(i).toFixed(3) + '-' + b.end(i).toFixed(3)).join(' ');
  let tracks = {};
  hls.on('hlsBufferCreated', (_, e) => { tracks = e.tracks; });
  const where = () => {
    const parts = ['at ' + video.currentTime.toFixed(3)];
    for (const [type, t] of Object.entries(tracks)) if (t.buffer) parts.push(type + ' ' + ranges(t.buffer.buffered));
    return parts.join(', ');
  };
  // A stall is a time after the first picture in which the playhead does not move although it should.
  let waiting = null;
  video.addEventListener('waiting', () => {
    if (view.firstFrameMs !== null && !waiting) view.stalls.push((waiting = { atMs: now(), ms: null, where: where() }));
  });
  const goes = () => {
    if (!waiting) return;
    waiting.ms = now() - waiting.atMs;
    waiting = null;
  };
  video.addEventListener('playing', goes);
  video.addEventListener('timeupdate', () => { if (waiting && video.readyState > 2 && !video.seeking) goes(); });
  video.addEventListener('seeking', () => { if (view.firstFrameMs !== null) view.seeks++; });
  hls.on('hlsError', (_, e) => view.errors.push({ atMs: now(), details: e.details, fatal: e.fatal, where: where() }));

  const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 360 }).getContext('2d', { willReadFrequently: true });
  let nextClock = 0;
  const frame = (at, meta) => {
    video.requestVideoFrameCallback(frame);
    if (view.firstFrameMs === null) {
      view.firstFrameMs = now();
      first = meta.mediaTime;
      setTimeout(() => { view.requests = requests(view.firstFrameMs); }, 3000);
    }
    if (at < nextClock) return;
    nextClock = at + 500;
    const picture = new VideoFrame(video);
    const shown = Date.now();
    canvas.drawImage(picture, 0, 0, 640, 360);
    picture.close();
    const capture = decodeTestCard(canvas.getImageData(0, 0, 640, 360));
    if (capture !== null) view.trueLatencies.push({ atMs: now(), ms: shown - capture });
  };
  video.requestVideoFrameCallback(frame);
  setInterval(() => {
    view.now = now();
    view.playedS = video.currentTime - first;
    const media = requests(Infinity).map((e) => e.name).filter((n) => !n.includes('.m3u8'));
    view.repeated = media.length - new Set(media).size;
    const date = hls.playingDate;
    if (view.firstFrameMs !== null && date && !video.seeking && video.readyState > 2) view.latencies.push({ atMs: now(), ms: Date.now() - date.getTime() });
    if (waiting) waiting.ms = now() - waiting.atMs;
  }, 250);
})();
