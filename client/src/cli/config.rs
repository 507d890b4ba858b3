//! config: which settings hold and who said so, and which cluster counts.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::args::{ConfigCommand, Global, Output};
use super::exit::{Exit, report};
use super::settings::{Said, Settings};
use super::style::{Role, Style};
use super::talk::{complain, notice, say};
use crate::Error;
use crate::config::ConfigFile;
use crate::origin::{Given, Origin};

pub(super) fn run(flags: &Global, said: Said, command: &ConfigCommand) -> Exit {
    let json = said.layers.output.value == Output::Json;
    let style = Style::of_stdout(said.layers.colour.value);
    match command {
        ConfigCommand::Show => show(&said, json, style),
        ConfigCommand::Path => path(&said, json),
        ConfigCommand::Check => check(flags, said, json),
        ConfigCommand::Contexts => contexts(&said, json, style),
        ConfigCommand::Use { name } => choose(&said, name, json),
    }
}

/// One line of `config show`.
struct Setting {
    name: &'static str,
    value: Value,
    origin: Origin,
}

fn settings(said: &Said) -> Vec<Setting> {
    let layers = &said.layers;
    let connection = &layers.connection;
    let mut all = Vec::new();
    let mut add = |name, value: Option<Given<Value>>| {
        let Given { value, origin } = value.unwrap_or(Given::new(Value::Null, Origin::Default));
        all.push(Setting { name, value, origin });
    };
    let text = |given: &Option<Given<String>>| given.clone().map(|given| given.map(Value::from));
    let file = |given: &Option<Given<std::path::PathBuf>>| {
        given.clone().map(|given| given.map(|path| path.to_string_lossy().into_owned().into()))
    };
    add("context", text(&layers.context));
    add("cluster", text(&connection.cluster));
    add("nodes", connection.nodes.clone().map(|given| given.map(Value::from)));
    add("user", text(&connection.user));
    add("password", Some(password(said)));
    add("tls.ca", file(&connection.tls.ca));
    add("tls.cert", file(&connection.tls.cert));
    add("tls.key", file(&connection.tls.key));
    add("tls.server_name", text(&connection.tls.server_name));
    add("output", Some(layers.output.clone().map(|output| output.word().into())));
    add("color", Some(layers.colour.clone().map(|colour| colour.word().into())));
    add("verbosity", Some(layers.verbosity.clone().map(|verbosity| verbosity.word().into())));
    add("jobs", Some(layers.jobs.clone().map(Value::from)));
    add("bwlimit", Some(layers.bwlimit.clone().map(Value::from)));
    add("token_cache", Some(layers.token_cache.clone().map(Value::from)));
    all
}

/// Who says the password, never what it is.
fn password(said: &Said) -> Given<Value> {
    let file = said.layers.connection.password_file.clone();
    let variable = std::env::var_os("DFS_PASSWORD").is_some();
    match file {
        Some(Given { value, origin }) if !variable || matches!(origin, Origin::Flag(_)) => {
            Given::new(format!("the first line of {}", value.display()).into(), origin)
        }
        _ if variable => Given::new("set".into(), Origin::Variable("DFS_PASSWORD")),
        _ => Given::new("a login, or a prompt".into(), Origin::Default),
    }
}

fn show(said: &Said, json: bool, style: Style) -> Exit {
    let settings = settings(said);
    let said_so = if json {
        let each = settings.iter().map(|Setting { name, value, origin }| {
            let source = match origin {
                Origin::Flag(_) => "flag",
                Origin::Variable(_) => "environment",
                Origin::File(path, _) => role(said, path),
                Origin::Default => "default",
            };
            json!({ "name": name, "value": value, "source": source, "from": origin.to_string() })
        });
        let settings: Vec<Value> = each.collect();
        let document = json!({ "settings": settings, "mistakes": said.layers.mistakes });
        say(&format!("{document:#}\n"))
    } else {
        let mut text = String::new();
        for Setting { name, value, origin } in &settings {
            let value = match value {
                Value::Null => "-".to_owned(),
                Value::String(text) => text.clone(),
                Value::Array(list) => {
                    list.iter().filter_map(Value::as_str).collect::<Vec<&str>>().join(", ")
                }
                other => other.to_string(),
            };
            let origin = origin.to_string();
            let origin = style.paint(Role::Faint, &origin);
            writeln!(text, "{name:<16} {value}  ({origin})").expect("a string takes all text");
        }
        say(&text)
    };
    tell_mistakes(&said.layers.mistakes).unwrap_or(said_so)
}

/// Which of the files it is.
fn role(said: &Said, path: &Path) -> &'static str {
    match &said.files {
        files if files.named.as_ref().is_some_and(|file| file.path() == path) => "file",
        files if files.project.as_ref().is_some_and(|file| file.path() == path) => "project file",
        _ => "user file",
    }
}

fn tell_mistakes(mistakes: &[String]) -> Option<Exit> {
    mistakes.iter().for_each(|mistake| complain(mistake));
    (!mistakes.is_empty()).then_some(Exit::Usage)
}

fn path(said: &Said, json: bool) -> Exit {
    let places = &said.places;
    let looked: Vec<&Path> = match &places.named {
        Some(named) => vec![&named.value],
        None => [Some(&*places.project), places.user.as_deref()].into_iter().flatten().collect(),
    };
    if json {
        let each = looked.iter().map(|path| {
            let source = if places.named.is_some() {
                "file"
            } else if *path == places.project {
                "project file"
            } else {
                "user file"
            };
            json!({ "path": path.to_string_lossy(), "source": source, "exists": path.exists() })
        });
        return say(&format!("{:#}\n", Value::Array(each.collect())));
    }
    let there = looked.iter().filter(|path| path.exists());
    let lines: String = there.map(|path| format!("{}\n", path.display())).collect();
    if lines.is_empty() {
        let looked: Vec<String> = looked.iter().map(|path| path.display().to_string()).collect();
        complain(&format!("there is no {}", looked.join(" and no ")));
        return Exit::Usage;
    }
    say(&lines)
}

fn check(flags: &Global, said: Said, json: bool) -> Exit {
    let files: Vec<String> =
        said.files.each().map(|file| file.path().display().to_string()).collect();
    let mistakes = Settings::new(flags, said).err().unwrap_or_default();
    let exit = tell_mistakes(&mistakes).unwrap_or(Exit::Ok);
    let told = if json {
        let document = json!({ "files": files, "mistakes": mistakes });
        say(&format!("{document:#}\n"))
    } else if mistakes.is_empty() {
        say("the configuration is good; 'dfsctl doctor' tries it\n")
    } else {
        Exit::Ok
    };
    if exit == Exit::Ok { told } else { exit }
}

fn contexts(said: &Said, json: bool, style: Style) -> Exit {
    let file = said.files.with_contexts();
    let chosen = said.layers.context.as_ref().map(|name| name.value.as_str());
    let names: Vec<&str> = file.into_iter().flat_map(ConfigFile::contexts).collect();
    if names.is_empty() && !json {
        let file = file.map(|file| file.path().display().to_string());
        let file = file.unwrap_or_else(|| "$XDG_CONFIG_HOME/dfs/dfs.yaml".to_owned());
        notice(&format!("no contexts; write them under 'contexts:' in {file}, each with a name"));
    }
    let found = |name: &str| file.and_then(|file| file.named(name)).unwrap_or_default();
    let mut text = String::new();
    let mut all = Vec::new();
    for name in names {
        let context = found(name);
        let cluster = context.cluster.map(|cluster| cluster.value);
        let user = context.user.map(|user| user.value);
        let nodes = context.nodes.map(|nodes| nodes.value).unwrap_or_default();
        let current = chosen == Some(name);
        let mark =
            if current { style.paint(Role::Good, "*") } else { style.paint(Role::Good, " ") };
        let line = format!("{mark} {name:<16} {}", cluster.as_deref().unwrap_or("-"));
        writeln!(text, "{line}  {}", nodes.join(", ")).expect("a string takes all text");
        all.push(json!({
            "name": name,
            "current": current,
            "cluster": cluster,
            "nodes": nodes,
            "user": user,
        }));
    }
    if json { say(&format!("{:#}\n", Value::Array(all))) } else { say(&text) }
}

/// Changes one line of the file that has the contexts.
fn choose(said: &Said, name: &str, json: bool) -> Exit {
    let Some(file) = said.files.with_contexts() else {
        tell_mistakes(&said.layers.mistakes);
        complain("config use: there is no file with contexts; see 'dfsctl help config'");
        return Exit::Usage;
    };
    if file.named(name).is_none() {
        let known: Vec<&str> = file.contexts().collect();
        let path = file.path().display();
        let known = match known[..] {
            [] => "no context: write them under 'contexts:', each with a name".to_owned(),
            _ => format!("no context '{name}'; it has {}", known.join(", ")),
        };
        complain(&format!("config use: {path} has {known}"));
        return Exit::Usage;
    }
    match replace(file.path(), &file.with_context(name)) {
        Ok(()) if json => {
            let path = file.path().to_string_lossy();
            say(&format!("{}\n", json!({ "file": path, "context": name })))
        }
        Ok(()) => say(&format!("{} now says: context: {name}\n", file.path().display())),
        Err(error) => report(&Error::local("write", file.path())(error)),
    }
}

/// Replaces a file as a whole; where it is a link, what that leads to.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let path = std::fs::canonicalize(path)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(std::fs::metadata(&path)?.permissions())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
