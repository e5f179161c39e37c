import asyncio
import concurrent.futures
import decimal
import os
import threading
import time


async def through_pipe():
    r, w = os.pipe()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(r, "rb"))

    def writer():
        for n in range(200):
            os.write(w, b"line %d\n" % n)
        os.close(w)

    t = threading.Thread(target=writer)
    t.start()
    total = 0
    while line := await reader.readline():
        total += int(line.split()[1])
    t.join()
    transport.close()
    results = await asyncio.gather(*(asyncio.sleep(0.001 * n, n * n) for n in range(10)))
    return total, results


decimal.getcontext().prec = 60
print(decimal.Decimal(2).sqrt(), decimal.Decimal(1) / 7)
print(asyncio.run(through_pipe()))
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(sum(pool.map(lambda n: sum(range(n)), range(200))))
event, hits = threading.Event(), []
timer = threading.Timer(0.01, event.set)
timer.start()
print(event.wait(5))
try:
    open("/no/such/file")
except OSError as err:
    print(err)
start = time.monotonic()
time.sleep(0.05)
print(time.monotonic() - start >= 0.05)
with open("/tmp/scratch", "w+") as f:
    f.write("x" * 100_000)
    f.seek(99_990)
    print(f.read(), os.stat("/tmp/scratch").st_size)
os.rename("/tmp/scratch", "/tmp/renamed")
print(os.path.exists("/tmp/scratch"), sorted(os.listdir("/tmp")).count("renamed"))
