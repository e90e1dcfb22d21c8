//! DPDK in this process, and the device thread.
//!
//! EAL pins the thread that starts it and keeps it as its main lcore, so it gets a thread of its own. That thread also
//! does all work that may call the kernel: it sets devices up, starts and closes them, and asks for their link and
//! their counters. Poll loops read its results.

use super::cause::{self, Cause};
use super::watched::Watched;
use super::{DpdkError, EnvironmentConfig, LoadedPlugin};
use crate::lock::lock;
use port_abi::{Start, Text};
use std::ffi::{CString, c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

/// The interval between two checks of the devices.
const LOOK: Duration = Duration::from_millis(100);

type Job = Box<dyn FnOnce() + Send>;

struct Inner {
    plugin: LoadedPlugin,
    config: EnvironmentConfig,
    jobs: Mutex<mpsc::Sender<Job>>,
    watched: Arc<Mutex<Vec<Weak<Watched>>>>,
    /// Whether a call took longer than its caller waited, and has not returned yet.
    stuck: Arc<AtomicBool>,
}

/// DPDK in this process: it starts once and ends with the process. Clones refer to the same DPDK.
#[derive(Clone)]
pub struct Environment {
    inner: Arc<Inner>,
}

static STARTED: OnceLock<Mutex<Option<Environment>>> = OnceLock::new();

impl Environment {
    /// Starts DPDK. If it already runs in this process and may use the same PCI devices, returns that one.
    ///
    /// # Errors
    /// See [`DpdkError`]: each names its remedy.
    pub fn start(plugin: LoadedPlugin, config: EnvironmentConfig) -> Result<Self, DpdkError> {
        let mut started = lock(STARTED.get_or_init(Mutex::default));
        if let Some(environment) = &*started {
            let same = environment.inner.config.pci == config.pci;
            return if same { Ok(environment.clone()) } else { Err(DpdkError::Started) };
        }
        let (jobs, inbox) = mpsc::channel::<Job>();
        let watched: Arc<Mutex<Vec<Weak<Watched>>>> = Arc::default();
        let (theirs, arguments) = (Arc::clone(&watched), config.arguments());
        let (tell, told) = mpsc::sync_channel(1);
        let body = move || {
            let result = start_library(plugin, &arguments);
            let works = result.is_ok();
            let _ = tell.send(result);
            if works {
                serve(&inbox, &theirs);
            }
        };
        let no_start = |(reason, cause)| DpdkError::NoStart { reason, cause };
        let spawned = std::thread::Builder::new().name("dpdk".to_owned()).spawn(body);
        spawned.map_err(|error| no_start((format!("no thread for it: {error}"), Cause::Unknown)))?;
        told.recv().map_err(|_| DpdkError::Gone)?.map_err(|reason| no_start(cause::of(reason)))?;
        let inner = Inner { plugin, config, jobs: Mutex::new(jobs), watched, stuck: Arc::default() };
        let environment = Self { inner: Arc::new(inner) };
        *started = Some(environment.clone());
        tracing::debug!("{} runs", plugin.library());
        Ok(environment)
    }

    /// Calls a function on the device thread, and waits for its result.
    ///
    /// # Errors
    /// That thread is gone.
    pub fn call<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, DpdkError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let job = Box::new(move || {
            // The other end waits for it.
            let _ = answer.send(job());
        });
        lock(&self.inner.jobs).send(job).map_err(|_| DpdkError::Gone)?;
        answered.recv().map_err(|_| DpdkError::Gone)
    }

    /// The same for a thread that others wait for: it waits no longer than `patience`, and not at all while an earlier
    /// call has not returned.
    ///
    /// # Errors
    /// That thread is gone, or the driver of a device blocks it.
    pub(super) fn call_within<T: Send + 'static>(
        &self,
        patience: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DpdkError> {
        if self.inner.stuck.load(Ordering::Acquire) {
            return Err(DpdkError::Stuck);
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let stuck = Arc::clone(&self.inner.stuck);
        let job = Box::new(move || {
            let _ = answer.send(job());
            if stuck.swap(false, Ordering::AcqRel) {
                tracing::info!("DPDK's devices are looked after again");
            }
        });
        lock(&self.inner.jobs).send(job).map_err(|_| DpdkError::Gone)?;
        match answered.recv_timeout(patience) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Disconnected) => Err(DpdkError::Gone),
            Err(RecvTimeoutError::Timeout) => {
                self.inner.stuck.store(true, Ordering::Release);
                // It may have returned just now.
                if let Ok(answer) = answered.try_recv() {
                    self.inner.stuck.store(false, Ordering::Release);
                    return Ok(answer);
                }
                tracing::warn!("{}", DpdkError::Stuck);
                Err(DpdkError::Stuck)
            }
        }
    }

    /// Calls a function on EAL's interrupt thread, and waits for its result: used to confine that thread.
    ///
    /// # Errors
    /// That thread accepts no call.
    pub fn call_interrupts<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, DpdkError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let job: Job = Box::new(move || {
            let _ = answer.send(job());
        });
        let context = Box::into_raw(Box::new(job)).cast::<c_void>();
        // SAFETY: the context is a boxed job, which `run_job` takes back.
        let result = unsafe { (self.inner.plugin.table.on_library_thread)(run_job, context) };
        if result != 0 {
            // SAFETY: nobody has called it.
            drop(unsafe { Box::from_raw(context.cast::<Job>()) });
            return Err(DpdkError::Thread(format!("its own thread takes no call ({result})")));
        }
        answered.recv().map_err(|_| DpdkError::Gone)
    }

    /// The plugin.
    pub fn plugin(&self) -> LoadedPlugin {
        self.inner.plugin
    }

    /// From now on the device thread checks this device.
    pub(super) fn watch(&self, device: &Arc<Watched>) {
        lock(&self.inner.watched).push(Arc::downgrade(device));
    }
}

extern "C" fn run_job(context: *mut c_void) {
    // SAFETY: made by `call_interrupts` for this one call.
    let job = unsafe { Box::from_raw(context.cast::<Job>()) };
    // Unwinding into C would end the process; the caller sees that there is no result.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
}

/// A line of EAL's log becomes one of ours.
extern "C" fn log(level: u32, text: *const c_char, len: usize) {
    // SAFETY: the plugin gives so many bytes, for this call.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    for line in String::from_utf8_lossy(bytes).lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        match level {
            0..=4 => {
                cause::note(line);
                tracing::error!(target: "dpdk", "{line}");
            }
            5 => tracing::warn!(target: "dpdk", "{line}"),
            6 => tracing::info!(target: "dpdk", "{line}"),
            _ => tracing::debug!(target: "dpdk", "{line}"),
        }
    }
}

fn start_library(plugin: LoadedPlugin, arguments: &[String]) -> Result<(), String> {
    tracing::debug!("EAL is started with: {}", arguments.join(" "));
    let texts: Result<Vec<CString>, _> = arguments.iter().map(|argument| CString::new(argument.as_str())).collect();
    let texts = texts.map_err(|_| "an argument has a zero".to_owned())?;
    let pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
    let start = Start { arguments: pointers.as_ptr(), count: pointers.len() as u32, log };
    let mut text = Text::new();
    cause::forget();
    // SAFETY: live structures; this is the first call in the process, and only this thread makes calls about devices.
    match unsafe { (plugin.table.start)(&raw const start, &raw mut text) } {
        0 => Ok(()),
        _ => Err(text.as_str().to_owned()),
    }
}

/// Does jobs, and checks devices between them, until nobody can send jobs any more.
fn serve(inbox: &mpsc::Receiver<Job>, watched: &Mutex<Vec<Weak<Watched>>>) {
    let mut look_at = std::time::Instant::now() + LOOK;
    loop {
        match inbox.recv_timeout(look_at.saturating_duration_since(std::time::Instant::now())) {
            Ok(job) => job(),
            Err(RecvTimeoutError::Timeout) => {
                let devices: Vec<Arc<Watched>> = {
                    let mut watched = lock(watched);
                    watched.retain(|device| device.strong_count() > 0);
                    watched.iter().filter_map(Weak::upgrade).collect()
                };
                devices.iter().for_each(|device| device.look());
                look_at = std::time::Instant::now() + LOOK;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

thread_local! {
    /// Whether the library knows this thread.
    static MEMBER: std::cell::OnceCell<Member> = const { std::cell::OnceCell::new() };
}

/// A thread that the library knows.
struct Member(LoadedPlugin);

impl Drop for Member {
    fn drop(&mut self) {
        // SAFETY: this thread was registered and ends now.
        unsafe { (self.0.table.unregister_thread)() }
    }
}

/// Registers the calling thread with the library; a second call is not an error. Without it the thread does not use the
/// library's caches.
pub(super) fn register_thread(plugin: LoadedPlugin) -> Result<(), DpdkError> {
    MEMBER.with(|member| {
        if member.get().is_some() {
            return Ok(());
        }
        // SAFETY: takes nothing; once for each thread.
        let result = unsafe { (plugin.table.register_thread)() };
        if result != 0 {
            return Err(DpdkError::Thread(std::io::Error::from_raw_os_error(-result).to_string()));
        }
        let _ = member.set(Member(plugin));
        Ok(())
    })
}
