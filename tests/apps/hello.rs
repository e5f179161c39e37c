use std::collections::BTreeMap;
use std::sync::{mpsc, Arc, Mutex};
use std::thread;

fn main() {
    let (tx, rx) = mpsc::channel();
    let shared = Arc::new(Mutex::new(BTreeMap::new()));
    let handles: Vec<_> = (0..8u64)
        .map(|n| {
            let tx = tx.clone();
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let sum: u64 = (0..100_000u64).map(|x| x ^ n).sum();
                shared.lock().unwrap().insert(n, sum);
                tx.send(n).unwrap();
            })
        })
        .collect();
    drop(tx);
    println!("received {}", rx.iter().sum::<u64>());
    for h in handles {
        h.join().unwrap();
    }
    for (n, sum) in shared.lock().unwrap().iter() {
        println!("{n} {sum}");
    }
    let panicked = thread::spawn(|| {
        std::panic::set_hook(Box::new(|_| {}));
        panic!("expected")
    })
    .join()
    .is_err();
    println!("panicked {panicked}");
    std::process::exit(if panicked { 0 } else { 1 });
}
