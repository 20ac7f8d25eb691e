//! The gate's step `certificates`: certificates of each kind, issued by the real binary, shown to verifiers that are not ours.

use std::path::PathBuf;
use std::process::Command;

use crate::redis;
use crate::schemathesis::may_skip;
use crate::shell::{Show, cargo, done, on_path, root, run, target_dir, typed};
use crate::tally::Tally;
use crate::test::Stop;

/// What verifies: a Python environment and a folder with packages for Node.
struct Tools {
    python: PathBuf,
    node: PathBuf,
}

/// The step of the gate. Skipped where the tools cannot be had, but not in CI.
pub(crate) fn gate() -> Result<Tally, Stop> {
    let tools = match tools() {
        Ok(tools) => tools,
        Err(why) if may_skip(std::env::var("CI").ok().as_deref()) => {
            println!("skipped, for the tools are not there: {why}");
            println!("(with CI=true this is a failure)");
            return Ok(Tally::default());
        }
        Err(why) => return Err(Stop::from(why)),
    };
    done(cargo().args(["build", "--workspace", "--bin", "berth"]))?;
    let mut check = Command::new(&tools.python);
    check.arg(root().join("api/certificates/check.py")).arg(target_dir().join("debug/berth"));
    check.arg(root().join("programmes/india-2021.toml")).arg(&tools.node);
    done(&mut check)?;
    Ok(Tally::ONE)
}

/// The verifiers; they are installed when they are not there in these versions.
fn tools() -> Result<Tools, String> {
    // What reads QR images, and makes a picture of a paper; the first brings libzbar0, which covidpylib loads.
    redis::ensure_one("zbarimg", "zbar-tools", "zbarimg of zbar 0.23")?;
    redis::ensure_one("pdftoppm", "poppler-utils", "pdftoppm of poppler")?;
    let home = target_dir().join("certificates");
    let wanted = |name: &str| {
        let path = root().join("api/certificates").join(name);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let (python_wanted, node_wanted) = (wanted("requirements.txt")?, wanted("package.json")?);
    let (venv, node) = (home.join("venv"), home.join("node"));
    let tools = Tools { python: venv.join("bin/python"), node: node.clone() };
    let note = home.join("installed.txt");
    let wanted = format!("{python_wanted}{node_wanted}");
    if std::fs::read_to_string(&note).is_ok_and(|there| there == wanted) {
        return Ok(tools);
    }
    if on_path("npm").is_none() || on_path("node").is_none() {
        return Err("node and npm are not there; on Debian: sudo apt-get install -y nodejs npm".to_owned());
    }
    done(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        .map_err(|error| format!("{error}; on Debian: sudo apt-get install -y python3-venv"))?;
    // Without a network it is soon over.
    let install = ["install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "15", "-r"];
    done(Command::new(venv.join("bin/pip")).args(install).arg(root().join("api/certificates/requirements.txt")))?;
    let mut import = Command::new(&tools.python);
    import.args(["-c", "import covidpy"]);
    let imported = run(&mut import, Show::Kept)?;
    if !imported.ok() {
        let hint = "on Debian: sudo apt-get install -y libzbar0";
        return Err(format!("{}`{}` ended with {}; {hint}", imported.text, typed(&import), imported.status()));
    }
    std::fs::create_dir_all(&node).map_err(|error| format!("{}: {error}", node.display()))?;
    let manifest = node.join("package.json");
    std::fs::write(&manifest, node_wanted).map_err(|error| format!("{}: {error}", manifest.display()))?;
    let install = ["install", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--fetch-retries=1"];
    done(Command::new("npm").args(install).current_dir(&node))?;
    std::fs::write(&note, wanted).map_err(|error| format!("{}: {error}", note.display()))?;
    Ok(tools)
}
