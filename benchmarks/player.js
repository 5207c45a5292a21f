// A WHEP player, and what reads the time code of the test pattern (deployments/streams/media/test_pattern.py).
// `await play(path)` gives the connection, the video and what to DELETE.
window.play = async (path) => {
  const pc = new RTCPeerConnection();
  const receiver = pc.addTransceiver('video', {direction: 'recvonly'}).receiver;
  receiver.jitterBufferTarget = 0;
  const video = document.createElement('video');
  Object.assign(video, {muted: true, autoplay: true});
  document.body.append(video);
  pc.ontrack = ({track}) => { video.srcObject = new MediaStream([track]); };
  await pc.setLocalDescription(await pc.createOffer());
  const answer = await fetch(path, {method: 'POST', headers: {'Content-Type': 'application/sdp'}, body: pc.localDescription.sdp});
  if (answer.status !== 201) throw new Error(await answer.text());
  await pc.setRemoteDescription({type: 'answer', sdp: await answer.text()});
  return {pc, video, location: answer.headers.get('Location')};
};
window.decoded = async ({pc}) => {
  for (const entry of (await pc.getStats()).values()) {
    if (entry.type === 'inbound-rtp') return {frames: entry.framesDecoded || 0, keys: entry.keyFramesDecoded || 0, lost: entry.packetsLost};
  }
  return {frames: 0, keys: 0, lost: 0};
};
const CELLS = 32, ROWS = 12;
const canvas = document.createElement('canvas');
const context = canvas.getContext('2d', {willReadFrequently: true});
// Milliseconds from when the picture was drawn until now; undefined where it has no readable code.
window.age = (shown, width, height) => {
  const now = performance.timeOrigin + performance.now();
  const strip = Math.floor(height / ROWS), cell = Math.floor(width / CELLS);
  canvas.width = CELLS * cell;
  canvas.height = 1;
  context.drawImage(shown, 0, height - (strip >> 1), canvas.width, 1, 0, 0, canvas.width, 1);
  const pixels = context.getImageData(0, 0, canvas.width, 1).data;
  let at = 0, check = 0, nibble = 0;
  for (let bit = 0; bit < CELLS; bit++) {
    const place = 4 * (bit * cell + (cell >> 1));
    const one = pixels[place] + pixels[place + 1] + pixels[place + 2] > 384 ? 1 : 0;
    if (bit < 28) at = at * 2 + one;
    nibble = nibble * 2 + one;
    if (bit % 4 === 3) { check ^= nibble; nibble = 0; }
  }
  if (check) return undefined;
  const ages = (now % 2 ** 28) - at;
  return {at, age: ages < -(2 ** 27) ? ages + 2 ** 28 : ages};
};
// Ages of the different pictures that are seen within some seconds, each at the first look at it.
window.watch = (shown, size, seconds) => new Promise((resolve) => {
  const ages = [], end = performance.now() + seconds * 1000;
  let last, unread = 0;
  const next = shown.requestVideoFrameCallback ? (call) => shown.requestVideoFrameCallback(call) : requestAnimationFrame;
  const look = () => {
    const [width, height] = size();
    const found = width ? age(shown, width, height) : undefined;
    if (!found) unread += 1;
    else if (found.at !== last) { last = found.at; ages.push(found.age); }
    if (performance.now() < end) next(look); else resolve({ages, unread});
  };
  next(look);
});
