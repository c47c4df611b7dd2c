//! Opens a folder of islands and says what is in it; with a second folder, draws each island there as a `.ppm` picture.
//! `cargo run -p wildmesh-cartographer --example islands -- islands /tmp/pictures 1.0`

use cartographer::ground::Ground;
use cartographer::terrain::open_folder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("which folder?")?;
    let pictures = arguments.next();
    let scale: f32 = arguments.next().map_or(Ok(1.0), |scale| scale.parse())?;
    for island in open_folder(folder)? {
        let (width, height) = island.size();
        let (id, title, natural) = (island.id(), island.title(), island.natural_count());
        println!("{id} {title}: {width}×{height} tiles, {natural} natural objects, {} bytes", island.bytes());
        if let Some(folder) = &pictures {
            let picture = island.picture(scale);
            let mut ppm = format!("P6 {} {} 255\n", picture.width, picture.height).into_bytes();
            ppm.extend(&picture.rgb);
            std::fs::write(format!("{folder}/{}.ppm", island.name()), ppm)?;
        }
    }
    Ok(())
}
